import json
import shutil

import numpy as np
import pytest

import tf_mamlpp as mp
from tf_mamlpp import export
from tf_mamlpp.deployed import DeployedModel, Learned
from tf_mamlpp.errors import UserError

WAY, NAMES = 3, ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), WAY), way=WAY, inner_steps=2, inner_rate=0.1)
    folder = tmp_path_factory.mktemp("deployed") / "model"
    export.export_saved_model(learner, folder, image_size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
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
    monkeypatch.setattr("tf_mamlpp.deployed._CHUNK", 3)
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
