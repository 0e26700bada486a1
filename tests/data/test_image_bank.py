import json
import multiprocessing
import os

import numpy as np
import pytest

from tf_mamlpp.data import build_or_load, resize
from tf_mamlpp.data import image_bank as module
from tf_mamlpp.data.image_bank import Pictures
from tf_mamlpp.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
PLACES = (1, 0, 1, 0, 1)  # the class of each: classes may come in any order


def build(key="key", opened=None, **changes):
    def open_pictures():
        if opened is not None:
            opened.append(key)
        return Pictures(("a", "b"), (2, 3), lambda: zip(PLACES, "vwxyz", IMAGES, strict=True))

    settings = {"name": "made train", "image_size": (8, 8), "channels": 1, **changes}
    return build_or_load(key, open_pictures, **settings)


def folders(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


def test_bank_holds_resized_pictures_class_by_class():
    bank = build()
    assert bank.class_names == ("a", "b") and bank.offsets.tolist() == [0, 2, 5]
    assert (bank.name, bank.source) == ("made train", "made")
    assert bank.images.dtype == np.uint8
    np.testing.assert_array_equal(bank.images, resize(IMAGES[[1, 3, 0, 2, 4], ..., None], (8, 8)))


def test_second_load_decodes_nothing_and_any_change_decodes_anew(tmp_path):
    opened = []
    first = build(opened=opened)
    np.testing.assert_array_equal(build(opened=opened).images, first.images)
    assert len(opened) == 1
    build("other key", opened)
    build(opened=opened, image_size=(9, 9))
    assert build(opened=opened, channels=3).images.shape == (5, 8, 8, 3)
    assert len(opened) == 4 and len(folders(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["short", "long", "no images", "bad json", "wrong json", "not npy"])
def test_damaged_cache_is_rebuilt(tmp_path, damage):
    expected = build().images.copy()
    images, index = folders(tmp_path)[0] / "images.npy", folders(tmp_path)[0] / "index.json"
    content = images.read_bytes()
    if damage == "no images":
        images.unlink()
    elif damage.endswith("json"):
        index.write_text("{" if damage == "bad json" else json.dumps({"class_names": ["a"], "offsets": [0, 5, 5]}))
    else:
        images.write_bytes({"short": content[:-1], "long": content + b"x", "not npy": b""}[damage])
    opened = []
    np.testing.assert_array_equal(build(opened=opened).images, expected)
    assert opened and len(folders(tmp_path)) == 1


def test_interrupted_build_leaves_nothing(tmp_path):
    def read():
        yield 0, "one", IMAGES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_or_load(
            "key",
            lambda: Pictures(("a",), (2,), read),
            name="made train",
            image_size=(8, 8),
            channels=1,
        )
    assert folders(tmp_path) == []


def test_two_builders_at_once(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=_publish, args=(tmp_path, i)) for i in (1, 2)]
    [p.start() for p in processes]
    [p.join() for p in processes]
    assert [p.exitcode for p in processes] == [0, 0]
    assert [f.name for f in tmp_path.iterdir() if not f.name.startswith("building")] == ["bank"]
    assert module._load(tmp_path / "bank", "bank train") is not None


def _publish(root, number):
    """Publishes the same bank often, beside another process that does the same."""
    for _ in range(50):
        building = root / f"building{number}"
        building.mkdir(exist_ok=True)
        np.save(building / "images.npy", np.zeros((2, 4, 4, 1), np.uint8))
        (building / "index.json").write_text(json.dumps({"class_names": ["a"], "offsets": [0, 2]}))
        module._publish(building, root / "bank", "bank train")
    os._exit(0)


def test_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the picture cache.*TF_MAMLPP_CACHE"):
        build(cache_dir=tmp_path / "file" / "below")


def test_progress_stays_quiet_in_a_log(capfd):
    build()
    assert capfd.readouterr().err.count("\n") == 1
    build()
    assert capfd.readouterr() == ("", "")
