import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import strategies as st

import tf_mamlpp as mp
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.saved_model import export_saved_model
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.confidence import Confidence, KnownScore

WAY, NAMES = 3, ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), WAY), way=WAY, inner_steps=2, inner_rate=0.1)
    folder = tmp_path_factory.mktemp("deployed") / "model"
    pictures = PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,))
    export_saved_model(task_learner(learner, pictures), folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return DeployedModel(folder)


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)


@pytest.fixture
def task(model):
    return model.adapt(pictures(3), np.arange(3), NAMES)


def test_many_pictures_at_once_equal_few(model, task, monkeypatch):
    query = pictures(7, seed=1)
    whole = model.predict(task, query)
    monkeypatch.setattr("tf_mamlpp.deploy.deployed_model._AT_ONCE", 3)
    np.testing.assert_allclose(model.predict(task, query), whole, rtol=1e-5, atol=1e-7)
    assert whole.shape == (7, 3) and model.predict(task, query[:0]).shape == (0, 3)


def test_a_column_for_each_class_of_the_task(model):
    few = model.adapt(pictures(2), np.arange(2), NAMES[:2])
    probabilities = model.predict(few, pictures(4, seed=1))
    assert probabilities.shape == (4, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_a_kept_task_predicts_the_same(model, task, tmp_path):
    task.save(tmp_path / "state.npz")
    query = pictures(2, seed=1)
    again = AdaptedTask.load(tmp_path / "state.npz")
    np.testing.assert_array_equal(model.predict(again, query), model.predict(task, query))


@pytest.mark.parametrize("key, value", [("way", 0), ("way", float("inf")), ("pictures", []), ("way", "many")])
def test_damaged_metadata_is_named(folder, tmp_path, key, value):
    about = json.loads((folder / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**about, key: value}))
    with pytest.raises(UserError, match="metadata.json' is damaged"):
        DeployedModel(tmp_path)


@pytest.mark.slow
def test_a_model_with_a_flipped_bit_is_refused_or_the_same(fuzz, folder, model, tmp_path):
    """TensorFlow keeps checksums of tensors and of the index, but for bytes of the index without use."""
    expected = model.adapt(pictures(3), np.arange(3), NAMES).state
    broken = shutil.copytree(folder, tmp_path / "broken")
    index, data = sorted((broken / "variables").iterdir(), reverse=True)

    def check(file, place, bit):
        whole = file.read_bytes()
        content = bytearray(whole)
        content[place % len(content)] ^= 1 << bit
        file.write_bytes(content)
        try:
            found = DeployedModel(broken).adapt(pictures(3), np.arange(3), NAMES).state
            assert file == index
            np.testing.assert_array_equal(found, expected)
        except UserError as error:
            assert "broken' cannot be loaded" in str(error)
        file.write_bytes(whole)

    places = st.integers(0, index.stat().st_size - 1)
    fuzz(check, 3, file=st.sampled_from([index, data]), place=places, bit=st.integers(0, 7))


def test_a_state_of_another_model_is_refused(model, task):
    other = AdaptedTask(task.state + 1, *list(vars(task).values())[1:])
    with pytest.raises(UserError, match="does not belong to this model"):
        model.predict(other, pictures(1))


def test_too_many_classes(model):
    with pytest.raises(UserError, match="4 classes for a 3-way model"):
        model.adapt(pictures(4), np.arange(4), (*NAMES, "d"))


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


@pytest.mark.slow_cases("a [1]")
@pytest.mark.parametrize("name", ["a [1]", "*", "what?", "back\\slash", "ünï 漢字 %s", os.fsdecode(b"latin-\xe9")])
def test_a_model_in_a_folder_of_any_name(folder, model, tmp_path, name):
    expected = model.adapt(pictures(3), np.arange(3), NAMES).state
    moved = shutil.copytree(folder, tmp_path / name / "model")
    np.testing.assert_array_equal(DeployedModel(moved).adapt(pictures(3), np.arange(3), NAMES).state, expected)


@pytest.mark.parametrize("name", ["a [1]", "[", "*", "what?", "back\\slash", os.fsdecode(b"latin-\xe9")])
def test_no_model_is_written_where_tensorflow_could_not_load_it(tmp_path, name):
    with pytest.raises(UserError, match="in its path.* so that it could not load the model: choose another output"):
        export_saved_model(None, tmp_path / name / "model")
    assert list(tmp_path.iterdir()) == []


def test_classes_and_pictures_added_later_are_as_learned_at_once(model):
    images, labels = pictures(5), np.array([0, 0, 1, 2, 1])
    task = model.adapt(images[:3], labels[:3], ["a", "b"])
    more = model.add(task, images[3:], [0, 1], ["c", "b"])
    assert more.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(more.state, model.adapt(images, labels, NAMES).state)
    fewer = model.remove(more, ["b"])
    assert fewer.class_names == ("a", "c")
    np.testing.assert_array_equal(fewer.state, model.adapt(images[[0, 1, 3]], [0, 0, 1], ["a", "c"]).state)
    assert task.class_names == ("a", "b") and len(task.images) == 3


def test_what_cannot_be_added_or_removed(model, task):
    for labels, names, message in (
        ([0], ["d"], "4 classes for a 3-way model: give it 1 to 3"),
        ([0], ["a", "b"], "class 'b' has no picture"),
        ([0], ["a", "a"], "two classes are called 'a'"),
    ):
        with pytest.raises(UserError, match=message):
            model.add(task, pictures(1), labels, names)
    with pytest.raises(UserError, match="class 'd' is not there to remove: there are a, b, c"):
        model.remove(task, ["a", "d"])
    with pytest.raises(UserError, match="no class would be left"):
        model.remove(task, NAMES)


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """The folder of a model that tells whether it knows a picture, and the model."""
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), WAY), way=WAY, inner_steps=2, inner_rate=0.1)
    folder = tmp_path_factory.mktemp("telling") / "model"
    confidence = Confidence(2.0, KnownScore("energy", slope=1.0, intercept=0.0, threshold=0.25))
    settings = {"pictures": PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)), "confidence": confidence}
    learner.export(folder, **settings)
    return folder, DeployedModel(folder)


def test_tells_whether_it_knows_a_picture(telling, monkeypatch):
    folder, model = telling
    assert model.threshold == 0.25
    task = model.adapt(pictures(2), np.arange(2), NAMES[:2])
    query = pictures(7, seed=1)
    probabilities, known = model.predict_known(task, query)
    np.testing.assert_array_equal(probabilities, model.predict(task, query))
    assert known.shape == (7,) and (known > 0).all() and (known < 1).all()
    monkeypatch.setattr("tf_mamlpp.deploy.deployed_model._AT_ONCE", 3)
    np.testing.assert_allclose(model.predict_known(task, query)[1], known, rtol=1e-5)
    assert [part.shape for part in model.predict_known(task, query[:0])] == [(0, 2), (0,)]


def test_every_signature_that_predicts_gives_known(telling):
    about = json.loads((telling[0] / "metadata.json").read_text())
    assert about["confidence"]["temperature"] == 2.0 and about["confidence"]["known"]["score"] == "energy"
    for name, signature in about["signatures"].items():
        if not name.startswith("adapt") or "predict" in name:
            shape = [None, None] if name.endswith("tasks") else [None]
            assert signature["outputs"]["known"] == {"dtype": "float32", "shape": shape}, name


def test_a_model_without_a_threshold_is_told_in_one_line(folder, model, task):
    assert model.threshold is None and "confidence" not in json.loads((folder / "metadata.json").read_text())
    with pytest.raises(UserError, match="^this model has no threshold for unknown pictures: export a run again"):
        model.predict_known(task, pictures(1))


@pytest.mark.parametrize("threshold", [-0.1, 2, float("nan"), "high", None])
def test_a_damaged_threshold_is_named(telling, tmp_path, threshold):
    about = json.loads((telling[0] / "metadata.json").read_text())
    about["confidence"]["known"]["threshold"] = threshold
    (tmp_path / "metadata.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="metadata.json' is damaged"):
        DeployedModel(tmp_path)


@pytest.mark.parametrize("confidence", [[], 3, {}])
def test_damaged_confidence_is_named(telling, tmp_path, confidence):
    about = json.loads((telling[0] / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**about, "confidence": confidence}))
    with pytest.raises(UserError, match="metadata.json' is damaged"):
        DeployedModel(tmp_path)


def test_a_threshold_without_the_output_is_told(folder, telling, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    about = json.loads((folder / "metadata.json").read_text())
    about["confidence"] = json.loads((telling[0] / "metadata.json").read_text())["confidence"]
    (tmp_path / "model" / "metadata.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="cannot be loaded: metadata.json has a threshold"):
        DeployedModel(tmp_path / "model")
