"""Deployed models of heads that take any number of classes."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.litert.export import export_litert
from tf_mamlpp.deploy.saved_model import export_saved_model
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError

SHAPE = (12, 12, 1)


@pytest.fixture(scope="module", params=["prototypes", pytest.param("shared", marks=pytest.mark.slow)])
def learner(request, scatter):
    settings = {**mp.presets["maml++"], "head": request.param}
    learner = mp.MetaLearner(mp.conv4(SHAPE, 3, filters=4, blocks=2), way=3, inner_steps=2, inner_rate=0.05, **settings)
    scatter(learner.model)
    return learner


@pytest.fixture(scope="module")
def deployed(learner):
    return task_learner(learner, PictureFormat(SHAPE[:2], 1, mean=(0.5,), std=(0.25,)))


@pytest.fixture(scope="module")
def folder(deployed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    export_saved_model(deployed, folder)
    return folder


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.float32)


def expected(learner, support, labels, queries):
    adapted = learner.adapt((support / 255 - 0.5) / 0.25, labels)
    return learner.predict_adapted(adapted, (queries / 255 - 0.5) / 0.25).numpy()


@pytest.mark.parametrize("labels", [[0, 1, 2], [3, 0, 1, 2, 4, 5, 6, 0, 0], [1, 0], [0]])
def test_a_saved_model_of_any_number_of_classes(learner, folder, labels):
    model = tf.saved_model.load(str(folder)).signatures
    support, queries, way = pictures(len(labels)), pictures(4, seed=1), max(labels) + 1
    state = model["adapt"](support_images=support, support_labels=np.int32(labels))["state"]
    found = model["predict"](state=state, images=queries)["probabilities"].numpy()
    np.testing.assert_allclose(found, expected(learner, support, labels, queries), atol=1e-5)
    about = json.loads((folder / "metadata.json").read_text())
    assert (about["way"], about["trained_way"], about["state_size"]) == (None, 3, None)
    assert state.shape[0] == about["state_size_without_classes"] + way * about["state_size_of_a_class"]


def test_tasks_of_one_call(folder):
    model = tf.saved_model.load(str(folder)).signatures
    support, queries, labels = pictures(10), pictures(6, seed=1), np.int32([0, 1, 2, 3, 4])
    together = model["adapt_and_predict_tasks"](
        support_images=support.reshape(2, 5, *SHAPE),
        support_labels=np.stack([labels, labels]),
        query_images=queries.reshape(2, 3, *SHAPE),
    )["probabilities"]
    assert together.shape == (2, 3, 5)
    for i in range(2):
        inputs = {"support_images": support[5 * i : 5 * i + 5], "query_images": queries[3 * i : 3 * i + 3]}
        alone = model["serving_default"](support_labels=labels, **inputs)["probabilities"]
        np.testing.assert_allclose(together[i], alone, atol=1e-6)


def test_what_a_saved_model_refuses(folder):
    model = tf.saved_model.load(str(folder)).signatures
    for labels in ([0, 2], [-1, 0], [1, 1]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="numbers of classes from 0 on, none left out"):
            model["adapt"](support_images=pictures(2), support_labels=np.int32(labels))
    state = model["adapt"](support_images=pictures(2), support_labels=np.int32([0, 1]))["state"].numpy()
    for wrong in (state[:-1], state[: len(state) // 2], np.append(state, 0.0)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="a state has .* numbers and .* for each class"):
            model["predict"](state=wrong.astype(np.float32), images=pictures(1))


def test_the_litert_file_gives_the_same(learner, deployed, folder, tmp_path):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs pip install tf_mamlpp[litert]")
    export_litert(deployed, tmp_path / "model.tflite")
    interpreter = interpreters.Interpreter(str(tmp_path / "model.tflite"))
    adapt, predict = (interpreter.get_signature_runner(name) for name in ("adapt", "predict"))
    for labels in ([0, 1, 2], [3, 0, 1, 2, 4, 5, 6, 0, 0], [1, 0]):
        support, queries = pictures(len(labels)), pictures(4, seed=1)
        state = adapt(support_images=support, support_labels=np.int32(labels))["state"]
        found = predict(state=state, images=queries)["probabilities"]
        np.testing.assert_allclose(found, expected(learner, support, labels, queries), atol=2e-4)
    assert np.isnan(adapt(support_images=pictures(2), support_labels=np.int32([0, 2]))["state"]).all()


def test_a_deployed_model_of_any_number_of_classes(learner, folder, tmp_path):
    model = DeployedModel(folder)
    assert model.way is None and model.trained_way == 3
    names = [f"class {c}" for c in range(8)]
    support, queries = pictures(8).astype(np.uint8), pictures(3, seed=1).astype(np.uint8)
    task = model.adapt(support, np.arange(8), names)
    np.testing.assert_allclose(model.predict(task, queries), expected(learner, support, range(8), queries), atol=1e-5)
    assert model.predict(task, queries[:0]).shape == (0, 8)
    task.save(tmp_path / "task.npz")
    kept = type(task).load(tmp_path / "task.npz")
    np.testing.assert_array_equal(model.predict(kept, queries), model.predict(task, queries))


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1], ["a", "a"], "two classes are called 'a': give each a name of its own"),
        ([0, 0], ["a", "b"], "class 'b' has no picture: give it one, or leave it out"),
        ([0, 2], ["a", "b"], "label 2 has none of 2 names"),
        ([0, -1], ["a", "b"], "label -1 has none of 2 names"),
    ],
)
def test_classes_that_do_not_go_together(folder, labels, names, message):
    with pytest.raises(UserError, match=message):
        DeployedModel(folder).adapt(pictures(2).astype(np.uint8), labels, names)


@pytest.mark.parametrize("key, value", [("trained_way", 0), ("trained_way", None), ("way", "any")])
def test_damaged_metadata(folder, tmp_path, key, value):
    copy = shutil.copytree(folder, tmp_path / "model")
    about = json.loads((copy / "metadata.json").read_text())
    (copy / "metadata.json").write_text(json.dumps({**about, key: value}))
    with pytest.raises(UserError, match="is damaged"):
        DeployedModel(copy)
