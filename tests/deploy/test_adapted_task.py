import numpy as np
import pytest

from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.errors import UserError

NAMES = ("a", "b", "c")


@pytest.fixture
def task():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 8, 8, 1), np.uint8)
    return AdaptedTask(generator.normal(size=50).astype(np.float32), NAMES, images, np.arange(3, dtype=np.int32))


def test_survives_in_a_file(task, tmp_path):
    task.save(tmp_path / "state.npz")
    again = AdaptedTask.load(tmp_path / "state.npz")
    assert again.class_names == NAMES
    for name in ("state", "images", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(task, name))


def test_damaged_files_are_refused_by_name(task, tmp_path):
    file = tmp_path / "state.npz"
    with pytest.raises(UserError, match="state.npz.*cannot be read"):
        AdaptedTask.load(file)
    task.save(file)
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="state.npz"):
            AdaptedTask.load(file)
    for place in generator.integers(0, len(whole), 40):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            AdaptedTask.load(file)
        except UserError as error:
            assert "state.npz" in str(error)
    np.savez(file, state=np.array([{}], object), class_names=1, images=1, labels=1)
    with pytest.raises(UserError, match="damaged or was not written"):
        AdaptedTask.load(file)  # pickle is never read


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([0, 1, 3], np.int32)},
        {"labels": np.array([0, 1, -1], np.int32)},
        {"labels": np.array([0.0, 1.0, 2.0])},
        {"class_names": np.array("a")},
        {"images": np.zeros((3, 8, 8, 1))},
        {"state": np.zeros((2, 2), np.float32)},
    ],
)
def test_a_state_that_contradicts_itself_is_refused(task, tmp_path, changes):
    task.save(tmp_path / "state.npz")
    with np.load(tmp_path / "state.npz") as held:
        np.savez(tmp_path / "state.npz", **{**held, **changes})
    with pytest.raises(UserError, match="was not written by tf-mamlpp adapt"):
        AdaptedTask.load(tmp_path / "state.npz")


def test_a_small_file_that_would_fill_the_memory_is_refused(task, monkeypatch):
    content = task.to_bytes()
    monkeypatch.setattr("tf_mamlpp.deploy.adapted_task._MOST_BYTES", 200)
    with pytest.raises(UserError, match="task.npz' is damaged .*: it unpacks to over 0 MB"):
        AdaptedTask.from_bytes(content, "task.npz")
