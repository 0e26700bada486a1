"""`learner.export` for inputs of every kind, beside `adapt` and `predict_adapted` of the learner itself."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.errors import UserError

L = keras.layers


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def text_model():
    words = keras.Input((None,), dtype="int32", name="words")
    return keras.Model(words, L.Dense(3)(L.GlobalAveragePooling1D()(L.Embedding(20, 4)(words))))


def several_inputs(structure):
    text, table = keras.Input((6,), dtype="int32", name="text"), keras.Input((4,), name="table")
    x = L.Concatenate()([L.GlobalAveragePooling1D()(L.Embedding(20, 4)(text)), L.BatchNormalization()(table)])
    return keras.Model({"text": text, "table": table} if structure is dict else [text, table], L.Dense(3)(x))


def segmentation():
    return keras.Sequential([keras.Input((4, 4, 2)), L.Conv2D(3, 3, padding="same")])


WORDS = np.random.default_rng(0).integers(0, 20, (9, 6)).astype("int32")
LABELS = np.arange(6, dtype="int32") % 3
KINDS = {
    "table": (lambda: mp.mlp((4,), 3, (5,)), numbers(9, 4), LABELS),
    "text": (text_model, WORDS, LABELS),
    "dict": (lambda: several_inputs(dict), {"text": WORDS, "table": numbers(9, 4)}, LABELS),
    "list": (lambda: several_inputs(list), [WORDS, numbers(9, 4)], LABELS),
    "masks": (segmentation, numbers(9, 4, 4, 2), np.random.default_rng(0).integers(0, 3, (6, 4, 4)).astype("int32")),
}


def part(inputs, begin, end):
    return tf.nest.map_structure(lambda x: x[begin:end], inputs)


def by_learner(learner, inputs, labels):
    """What the learner's own passes give, whatever the structure of its inputs."""
    model, row = learner.functional_model, learner.inner_steps - 1
    support = part(inputs, 0, 6)
    fast, state = model.adapt({"support_images": support, "support_labels": labels}, model.state, learner.inner_steps)
    state = model.support_statistics(model.weights(fast), state, support, row)
    outputs, *_ = model.outputs(model.weights(fast), state, part(inputs, 6, 9), row, statistics="running")
    return learner.output_kind.to_probabilities(outputs)


@pytest.mark.slow_cases("text", "list", "masks")
@pytest.mark.parametrize("kind", KINDS)
def test_adapts_and_predicts_as_the_learner(kind, tmp_path):
    make, inputs, labels = KINDS[kind]
    learner = mp.MetaLearner(make(), way=3, inner_steps=2, inner_rate=0.3, first_order=True)
    described = learner.export(tmp_path / "model")
    assert described == json.loads((tmp_path / "model/metadata.json").read_text())
    expected = by_learner(learner, inputs, labels)
    assert np.ptp(expected) > 0.01

    model = tf.saved_model.load(str(tmp_path / "model"))
    as_tensors = tf.nest.map_structure(tf.constant, inputs)
    state = model.adapt(part(as_tensors, 0, 6), tf.constant(labels))["state"]
    np.testing.assert_allclose(model.predict(state, part(as_tensors, 6, 9))["probabilities"], expected, atol=1e-6)

    names = {"dict": ("_table", "_text"), "list": ("_0", "_1")}.get(kind, ("",))  # sorted, as `flatten` does
    support, query = (
        dict(zip(names, tf.nest.flatten(part(as_tensors, *ends)), strict=True)) for ends in ((0, 6), (6, 9))
    )
    support_x = {f"support_x{name}": x for name, x in support.items()}
    served = model.signatures["serving_default"](
        support_y=tf.constant(labels), **support_x, **{f"query_x{name}": x for name, x in query.items()}
    )
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-6)
    again = model.signatures["adapt"](support_y=tf.constant(labels), **support_x)["state"]
    np.testing.assert_array_equal(again, state)


def test_a_regression(tmp_path):
    learner = mp.MetaLearner(mp.mlp((1,), 1, (5,)), loss="mean_squared_error", inner_steps=2)
    learner.export(tmp_path / "model", inner_steps=3)
    model = tf.saved_model.load(str(tmp_path / "model"))
    x, y = numbers(6, 1), numbers(6, 1, seed=1)
    outputs = model.predict(model.adapt(x, y)["state"], x)["outputs"]
    np.testing.assert_allclose(outputs, learner.predict_adapted(learner.adapt(x, y, 3), x), atol=1e-6)


@pytest.mark.slow
def test_answers_of_their_own(tmp_path):
    learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, loss="binary_crossentropy", inner_steps=2)
    learner.export(tmp_path / "model")
    model = tf.saved_model.load(str(tmp_path / "model"))
    x, y = numbers(6, 4), np.eye(3, dtype="float32")[LABELS]
    probabilities = model.predict(model.adapt(x, y)["state"], x)["probabilities"]
    np.testing.assert_allclose(probabilities, learner.predict_adapted(learner.adapt(x, y), x), atol=1e-6)


@pytest.mark.slow
def test_pictures_in_grey_values(tmp_path):
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3, (5,)), way=3, inner_steps=1)
    learner.export(tmp_path / "model", pictures=mp.PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
    model = DeployedModel(tmp_path / "model")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype("uint8")
    adapted = learner.adapt(pictures / np.float32(127.5) - 1, [0, 1, 2])
    expected = learner.predict_adapted(adapted, pictures / np.float32(127.5) - 1)
    task = model.adapt(pictures, [0, 1, 2], ["a", "b", "c"])
    np.testing.assert_allclose(model.predict(task, pictures), expected, atol=1e-5)


@pytest.mark.slow
def test_runs_with_tensorflow_alone(tmp_path):
    mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=1).export(tmp_path / "model")
    script = (
        "import sys; sys.modules['keras'] = sys.modules['tf_mamlpp'] = None; import tensorflow as tf; "
        "m = tf.saved_model.load(sys.argv[1]); s = m.adapt(tf.eye(3, 4), tf.constant([0, 1, 2]))['state']; "
        "print(m.predict(s, tf.eye(2, 4))['probabilities'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "model"], capture_output=True, text=True)
    assert done.stdout == "(2, 3)\n", done.stderr


def test_what_is_wrong_is_said(tmp_path):
    learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=1)
    learner.export(tmp_path / "model")
    model = tf.saved_model.load(str(tmp_path / "model"))
    for x, y, message in (
        (numbers(3, 4), [0, 1, 3], "support_y must be 0..2 for this 3-way model"),
        (numbers(3, 4), [0, 1], "each example needs one label"),
        (np.full((1, 4), np.nan, "float32"), [0], "must be finite numbers"),
        (numbers(0, 4), np.zeros(0), "the support set is empty"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            model.adapt(x, tf.constant(y, tf.int32))
    state = model.adapt(numbers(3, 4), tf.constant([0, 1, 2]))["state"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="learned by another model"):
        model.predict(state + 1, numbers(1, 4))
    with pytest.raises(UserError, match="takes no pictures"):
        DeployedModel(tmp_path / "model")
    with pytest.raises(UserError, match="exists already"):
        learner.export(tmp_path / "model")
    with pytest.raises(UserError, match="only learners with an inner loop"):
        mp.PrototypicalNetworks(mp.mlp((4,), 3, (5,)), way=3).export(tmp_path / "other")


class Undeclared(keras.Model):
    def __init__(self):
        super().__init__(name="undeclared")
        self.dense = L.Dense(3)

    def call(self, x, training=False):
        return self.dense(x)


def test_a_model_that_declares_no_inputs(tmp_path):
    net = Undeclared()
    net(numbers(1, 4))
    learner = mp.MetaLearner(net, way=3, inner_steps=1, first_order=True)
    with pytest.raises(UserError, match="model 'undeclared' does not declare its inputs: give input_signature"):
        learner.export(tmp_path / "model")
    learner.export(tmp_path / "model", input_signature=tf.TensorSpec([None, 4]))
    model = tf.saved_model.load(str(tmp_path / "model"))
    assert model.adapt(numbers(3, 4), tf.constant([0, 1, 2]))["state"].shape == (1 + 3 + 15,)
