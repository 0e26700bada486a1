"""Heads of logits, softmax and sigmoid with each way to name a loss: one meaning, everywhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.output_kind import OutputKind, model_end, output_kind

L, losses = keras.layers, keras.losses


def network(*head, shape=(4,), dtype=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape, dtype=dtype), L.Dense(6, "tanh", dtype=dtype), *head], name="net")


def dense(activation=None, units=3, dtype=None):
    return L.Dense(units, activation, dtype=dtype)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = dense("softmax")

    def call(self, x, training=False):
        return self.dense(x)


def called(model):
    model(tf.zeros((1, 4)))
    return model


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (lambda: network(dense()), "logits"),
        (lambda: network(L.Dense(3, use_bias=False)), "logits"),
        (lambda: network(dense("softmax")), "softmax"),
        (lambda: network(dense(), L.Activation("softmax")), "softmax"),
        (lambda: network(dense("sigmoid"), L.Activation("linear", dtype="float32"), L.Dropout(0.5)), "sigmoid"),
        (lambda: network(dense(), L.LayerNormalization()), "unknown"),
        (lambda: network(keras.Sequential([dense("softmax")])), "softmax"),
        (lambda: network(L.TimeDistributed(dense("softmax")), shape=(5, 4)), "softmax"),
        (lambda: network(L.Conv2D(3, 3, activation="softmax"), shape=(5, 5, 2)), "softmax"),
        (lambda: network(L.Dense(6, "softmax"), L.Reshape((2, 3))), "softmax"),
        (lambda: called(Subclassed()), "softmax"),
        (lambda: mp.conv4((8, 8, 1), 3, blocks=2), "logits"),
    ],
)
def test_how_models_end(make, end):
    assert model_end(make()) == end


def test_operations_outside_layers_count_too():
    inputs = keras.Input((4,))
    logits = dense()(inputs)
    assert model_end(keras.Model(inputs, keras.ops.softmax(logits))) == "softmax"
    assert model_end(keras.Model(inputs, 2 * logits)) == "unknown"


SPARSE, BINARY = losses.SparseCategoricalCrossentropy, losses.BinaryCrossentropy


@pytest.mark.parametrize(
    ("head", "loss", "kind"),
    [
        (dense, None, OutputKind()),
        (dense, "sparse_categorical_crossentropy", OutputKind()),
        (dense, "SparseCategoricalCrossentropy", OutputKind()),
        (dense, losses.sparse_categorical_crossentropy, OutputKind()),
        (dense, SPARSE(from_logits=True), OutputKind()),
        (dense, "categorical_crossentropy", OutputKind(one_hot=True)),
        (dense, "binary_crossentropy", OutputKind(independent=True, one_hot=True)),
        (dense, "categorical_hinge", OutputKind()),
        (lambda: dense("softmax"), None, OutputKind(probabilities=True)),
        (lambda: dense("softmax"), "sparse_categorical_crossentropy", OutputKind(probabilities=True)),
        (lambda: dense("softmax"), SPARSE(), OutputKind(probabilities=True)),
        (lambda: dense("softmax"), "mean_squared_error", OutputKind(probabilities=True)),
        (lambda: dense("sigmoid"), BINARY(), OutputKind(probabilities=True, independent=True, one_hot=True)),
    ],
)
def test_what_outputs_are(head, loss, kind):
    assert output_kind(network(head()), loss, 3)[0] == kind


def test_without_way_the_loss_tells():
    assert output_kind(network(dense()), "mean_squared_error")[0] == OutputKind(values=True)
    assert output_kind(network(dense()), SPARSE(from_logits=True))[0] == OutputKind()


@pytest.mark.parametrize(
    ("head", "loss", "message"),
    [
        (lambda: dense("softmax"), SPARSE(from_logits=True), "'net' ends in softmax, and the loss .* from_logits=True"),
        (
            dense,
            SPARSE(),
            "'net' ends without softmax or sigmoid, and the loss .* probabilities: set from_logits",
        ),
        (dense, "kl_divergence", "takes probabilities: end in one"),
        (lambda: dense("softmax"), "binary_crossentropy", "'net' ends in softmax, one choice of all outputs, and"),
        (L.LayerNormalization, "categorical_crossentropy", "cannot be told whether the outputs of model 'net' are"),
    ],
)
def test_contradictions_are_one_line(head, loss, message):
    with pytest.raises(UserError, match=message) as error:
        mp.MetaLearner(network(dense(), head()) if head is L.LayerNormalization else network(head()), way=3, loss=loss)
    assert "\n" not in str(error.value)


def twins(dtype="float64"):
    """A network of logits, and the same with a softmax after it."""
    logits, softmax = network(dense(dtype=dtype), dtype=dtype), network(dense("softmax", dtype=dtype), dtype=dtype)
    softmax.set_weights(logits.get_weights())
    return logits, softmax


@pytest.mark.parametrize(
    ("loss", "in_graph"),
    [("sparse_categorical_crossentropy", True), pytest.param(None, False, marks=pytest.mark.slow)],
)
def test_a_softmax_head_learns_and_answers_as_its_logits(make_tasks, loss, in_graph):
    tasks = make_tasks(shape=(4,), query_shot=4)
    plain, softmax = (
        mp.MetaLearner(net, way=3, inner_steps=1, inner_rate=0.5, loss=given, label_permutations=2)
        for net, given in zip(twins(), (None, loss), strict=True)
    )
    for a, b in zip(*(_meta_gradient(x, tasks, in_graph) for x in (plain, softmax)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    support = tasks["support_images"][0], tasks["support_labels"][0]
    answers = [x.predict_adapted(x.adapt(*support), tasks["query_images"][0]) for x in (plain, softmax)]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-12)
    np.testing.assert_allclose(tf.reduce_sum(answers[1], -1), 1, rtol=1e-12)
    np.testing.assert_allclose(tf.nn.softmax(plain.curves(tasks)), softmax.curves(tasks), rtol=1e-9)
    for x in (plain, softmax):
        x.compile("sgd")
    data = tf.data.Dataset.from_tensors(tasks)
    found = [x.evaluate(data, verbose=0, return_dict=True) for x in (plain, softmax)]
    first, second = ({name: float(value) for name, value in each.items()} for each in found)
    assert first == pytest.approx(second, rel=1e-9)
    values = [mp.evaluate(x, [tasks], members=[lambda: None] * 2).per_task for x in (plain, softmax)]
    np.testing.assert_array_equal(*values)


def _meta_gradient(learner, tasks, in_graph):
    return (tf.function(learner.meta_gradient) if in_graph else learner.meta_gradient)(tasks)[0]


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_binary_answers_are_sigmoids(make_tasks, activation):
    tasks = make_tasks(shape=(4,), dtype="float32")
    for part in ("support", "query"):
        tasks[f"{part}_labels"] = tf.cast(tasks[f"{part}_images"][..., :3] > 0, "float32")
    learner = mp.MetaLearner(
        network(dense(activation)), way=3, inner_steps=1, inner_rate=9.0, loss="binary_crossentropy"
    )
    learner.compile("sgd")
    adapted = learner.adapt(tasks["support_images"][0], tasks["support_labels"][0])
    outputs = learner.curves(tasks)[0, -1]
    expected = outputs if activation else tf.sigmoid(outputs)
    answers = learner.predict_adapted(adapted, tasks["query_images"][0])
    np.testing.assert_allclose(answers, expected, rtol=1e-5)
    assert np.abs(tf.reduce_sum(answers, -1) - 1).max() > 0.1
    right = (answers.numpy() > 0.5) == (tasks["query_labels"][0].numpy() > 0.5)
    assert mp.evaluate(learner, [tasks]).per_task[0, -1] == pytest.approx(right.mean(), abs=1e-6)
    found = learner.evaluate(tf.data.Dataset.from_tensors(tasks), verbose=0, return_dict=True)
    assert float(found["accuracy"]) == pytest.approx(mp.evaluate(learner, [tasks]).value, abs=1e-6)


def test_a_named_loss_on_logits_learns_as_the_one_from_logits(make_tasks):
    found = []
    for loss in ("sparse_categorical_crossentropy", SPARSE(from_logits=True)):
        keras.utils.set_random_seed(0)
        learner = mp.MetaLearner(network(dense()), way=3, inner_steps=1, loss=loss)
        found.append(learner.meta_gradient(make_tasks(shape=(4,), dtype="float32"))[0])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [OutputKind(), OutputKind(probabilities=True), OutputKind(independent=True)])
def test_outputs_of_probabilities_are_read_back(kind):
    probabilities = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(kind.to_probabilities(kind.of_probabilities(probabilities)), probabilities, atol=1e-7)
    outputs = tf.constant(probabilities[:1])
    again = kind._replace(probabilities=False).to_probabilities(kind.to_logits(outputs))
    np.testing.assert_allclose(again, kind.to_probabilities(outputs), rtol=1e-6)


def test_among_some_classes():
    present = tf.constant([1.0, 0.0, 1.0])
    probabilities = tf.constant([[0.2, 0.5, 0.3]])
    expected = [[0.4, 0.0, 0.6]]
    np.testing.assert_allclose(OutputKind().among(tf.math.log(probabilities), present), expected, rtol=1e-6)
    np.testing.assert_allclose(OutputKind(probabilities=True).among(probabilities, present), expected, rtol=1e-6)
    independent = OutputKind(probabilities=True, independent=True)
    np.testing.assert_allclose(independent.among(probabilities, present), [[0.2, 0.0, 0.3]], rtol=1e-6)
