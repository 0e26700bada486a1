import json
import shutil

import numpy as np
import pytest
from hypothesis import strategies as st

import tf_mamlpp as mp
from tf_mamlpp.deploy import saved_model
from tf_mamlpp.deploy.deployed_model import DeployedModel, Learned
from tf_mamlpp.errors import UserError

WAY, NAMES = 3, ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), WAY), way=WAY, inner_steps=2, inner_rate=0.1)
    folder = tmp_path_factory.mktemp("deployed") / "model"
    saved_model.export_saved_model(learner, folder, image_size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return DeployedModel(folder)


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)


@pytest.fixture
def learned(model):
    return model.learn(pictures(3), np.arange(3), NAMES)


def test_many_pictures_at_once_equal_few(model, learned, monkeypatch):
    query = pictures(7, seed=1)
    whole = model.answer(learned, query)
    monkeypatch.setattr("tf_mamlpp.deploy.deployed_model._CHUNK", 3)
    np.testing.assert_allclose(model.answer(learned, query), whole, rtol=1e-5, atol=1e-7)
    assert whole.shape == (7, 3) and model.answer(learned, query[:0]).shape == (0, 3)


def test_a_column_for_each_class_that_was_learned(model):
    few = model.learn(pictures(2), np.arange(2), NAMES[:2])
    probabilities = model.answer(few, pictures(4, seed=1))
    assert probabilities.shape == (4, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_what_was_learned_survives_in_a_file(model, learned, tmp_path):
    learned.save(tmp_path / "state.npz")
    again = Learned.load(tmp_path / "state.npz")
    assert again.class_names == NAMES
    for name in ("state", "images", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(learned, name))
    query = pictures(2, seed=1)
    np.testing.assert_array_equal(model.answer(again, query), model.answer(learned, query))


def test_damaged_files_are_refused_by_name(learned, tmp_path):
    file = tmp_path / "state.npz"
    with pytest.raises(UserError, match="state.npz.*cannot be read"):
        Learned.load(file)
    learned.save(file)
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="state.npz"):
            Learned.load(file)
    for place in generator.integers(0, len(whole), 40):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            Learned.load(file)
        except UserError as error:
            assert "state.npz" in str(error)
    np.savez(file, state=np.array([{}], object), class_names=1, images=1, labels=1)
    with pytest.raises(UserError, match="damaged or was not written"):
        Learned.load(file)  # pickle is never read


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
def test_a_state_that_contradicts_itself_is_refused(learned, tmp_path, changes):
    learned.save(tmp_path / "state.npz")
    with np.load(tmp_path / "state.npz") as held:
        np.savez(tmp_path / "state.npz", **{**held, **changes})
    with pytest.raises(UserError, match="was not written by bin/adapt.py"):
        Learned.load(tmp_path / "state.npz")


@pytest.mark.parametrize("key, value", [("way", 0), ("state_size", float("inf")), ("pictures", []), ("way", "many")])
def test_damaged_metadata_is_named(folder, tmp_path, key, value):
    about = json.loads((folder / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**about, key: value}))
    with pytest.raises(UserError, match="metadata.json' is damaged"):
        DeployedModel(tmp_path)


def test_a_model_with_a_flipped_bit_is_refused_or_the_same(fuzz, folder, model, tmp_path):
    """TensorFlow keeps checksums of tensors and of the index, but for bytes of the index without use."""
    expected = model.learn(pictures(3), np.arange(3), NAMES).state
    broken = shutil.copytree(folder, tmp_path / "broken")
    index, data = sorted((broken / "variables").iterdir(), reverse=True)

    def check(file, place, bit):
        whole = file.read_bytes()
        content = bytearray(whole)
        content[place % len(content)] ^= 1 << bit
        file.write_bytes(content)
        try:
            found = DeployedModel(broken).learn(pictures(3), np.arange(3), NAMES).state
            assert file == index
            np.testing.assert_array_equal(found, expected)
        except UserError as error:
            assert "broken' cannot be loaded" in str(error)
        file.write_bytes(whole)

    places = st.integers(0, index.stat().st_size - 1)
    fuzz(check, 3, file=st.sampled_from([index, data]), place=places, bit=st.integers(0, 7))


def test_a_state_of_another_model_is_refused(model, learned):
    other = Learned(learned.state + 1, *list(vars(learned).values())[1:])
    with pytest.raises(UserError, match="does not belong to this model"):
        model.answer(other, pictures(1))


def test_too_many_classes(model):
    with pytest.raises(UserError, match="4 classes for a 3-way model"):
        model.learn(pictures(4), np.arange(4), (*NAMES, "d"))


def test_folders_that_hold_no_model(folder, tmp_path):
    with pytest.raises(UserError, match="holds no exported model"):
        DeployedModel(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "saved_model.pb").write_bytes((broken / "saved_model.pb").read_bytes()[:100])
    with pytest.raises(UserError, match="broken.*cannot be loaded"):
        DeployedModel(broken)
    about = json.loads((broken / "metadata.json").read_text())
    (broken / "metadata.json").write_text(json.dumps({**about, "format": 0}))
    with pytest.raises(UserError, match="has format 0"):
        DeployedModel(broken)
    (broken / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="metadata.json.*damaged"):
        DeployedModel(broken)
