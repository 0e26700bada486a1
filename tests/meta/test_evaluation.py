"""`evaluate` and its closed forms."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.evaluation import Evaluation, evaluate
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.models.mlp import mlp


def test_mean_interval_and_curve():
    found = Evaluation(np.array([[0.0, 1.0], [0.5, 0.5], [0.1, 0.0], [0.2, 0.5]]))
    assert found.value == 0.5
    assert found.confidence_95 == pytest.approx(1.96 * math.sqrt(0.5 / 3) / 2)
    assert found.per_inner_step == pytest.approx([0.2, 0.5])


def test_one_task_has_no_interval():
    assert math.isnan(Evaluation(np.ones((1, 3))).confidence_95)


@pytest.fixture
def learner(scatter):
    learner = MetaLearner(mlp((4,), 3, (5,), dtype="float64"), way=3, inner_steps=2, inner_rate=0.4)
    scatter(learner.model)
    return learner


@pytest.fixture
def tasks(make_tasks):
    return make_tasks(tasks=8, query_shot=5, shape=(4,))


def accuracy(probabilities, tasks):
    return (np.argmax(probabilities, -1) == tasks["query_labels"].numpy()[:, None]).mean(-1)


@pytest.mark.parametrize("inner_steps", [None, 1, 4])
def test_one_model(learner, tasks, inner_steps):
    batches = tf.data.Dataset.from_tensor_slices(tasks).batch(3)
    found = evaluate(learner, batches, inner_steps=inner_steps)
    curves = learner.curves(tasks, inner_steps).numpy()
    assert found.per_task.dtype == np.float64
    np.testing.assert_allclose(found.per_task, accuracy(curves, tasks), atol=1e-7)


def test_answers_are_the_probabilities_after_the_last_step(learner, tasks):
    found = evaluate(learner, tf.data.Dataset.from_tensor_slices(tasks).batch(3))
    assert [len(answers) for answers in found.answers] == [3, 3, 2]
    last = tf.nn.softmax(learner.curves(tasks)[:, -1]).numpy()
    np.testing.assert_allclose(np.concatenate(found.answers), last, rtol=1e-12)


def test_an_ensemble_averages_probabilities(learner, tasks, scatter):
    start = [v.numpy() for v in learner.model.variables]

    def load(seed):
        for v, value in zip(learner.model.variables, start, strict=True):
            v.assign(3 * value)
        scatter(learner.model, seed)

    members = [lambda: load(5), lambda: load(6)]
    softmaxes = []
    for member in members:
        member()
        softmaxes.append(tf.nn.softmax(learner.curves(tasks)).numpy())
    found = evaluate(learner, [tasks], members=members)
    expected = accuracy(np.mean(softmaxes, 0), tasks)
    np.testing.assert_allclose(found.per_task, expected, atol=1e-7)
    assert all((accuracy(s, tasks) != expected).any() for s in softmaxes)


def test_regression_measures_the_error_of_the_mean_output(make_tasks, scatter):
    learner = MetaLearner(
        mlp((4,), 1, (5,), dtype="float64"), inner_steps=1, loss="mean_squared_error", metric="mean_squared_error"
    )
    tasks = make_tasks(shape=(4,))
    for part in ("support", "query"):
        tasks[f"{part}_labels"] = tf.reduce_sum(tasks[f"{part}_images"], -1, keepdims=True)
    outputs = []
    members = [lambda seed=seed: scatter(learner.model, seed) for seed in (1, 2)]
    start = learner.get_weights()
    for member in members:
        member()
        outputs.append(learner.curves(tasks).numpy())
    learner.set_weights(start)
    found = evaluate(learner, [tasks], members=members)
    errors = (np.mean(outputs, 0) - tasks["query_labels"].numpy()[:, None]) ** 2
    np.testing.assert_allclose(found.per_task, errors.mean((-1, -2)), rtol=1e-6)


@pytest.mark.slow
def test_every_query_statistics_is_passed_on(smooth_model, scatter, make_tasks):
    learner = MetaLearner(smooth_model(), way=3, inner_steps=1)
    scatter(learner.model)
    tasks = make_tasks(tasks=4, query_shot=4)
    for statistics in ("batch", "running", "support"):
        found = evaluate(learner, [tasks], query_statistics=statistics)
        expected = accuracy(learner.curves(tasks, query_statistics=statistics), tasks)
        np.testing.assert_allclose(found.per_task, expected, atol=1e-7)


def shuffled(tasks):
    return tf.data.Dataset.from_tensor_slices(tasks).shuffle(8, seed=1).batch(2)


def test_a_shuffled_dataset_is_read_once_with_its_labels(learner, tasks):
    found = evaluate(learner, shuffled(tasks))
    in_order = accuracy(learner.curves(tasks).numpy(), tasks)
    np.testing.assert_allclose(np.sort(found.per_task[:, -1]), np.sort(in_order[:, -1]), atol=1e-7)
    assert found.value == pytest.approx(in_order[:, -1].mean())


def test_a_generator_is_read_once(learner, tasks):
    assert evaluate(learner, iter([tasks])).value == evaluate(learner, [tasks]).value


def another_picture(tasks):
    changed = {**tasks, "support_images": tasks["support_images"] + tf.one_hot(0, 4, dtype=tf.float64) * 1e-9}
    return [tasks], [changed]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (shuffled, "other tasks"),
        (lambda tasks: Readings(*another_picture(tasks)), "other tasks"),
    ],
    ids=["shuffled", "other pictures of the same labels"],
)
def test_members_that_would_get_other_tasks_are_refused(learner, tasks, data, found):
    with pytest.raises(UserError, match=f"member 2 got {found} .*: give a dataset that yields the same"):
        evaluate(learner, data(tasks), members=[lambda: None] * 2)


class Readings:
    """Data that are others each time they are read."""

    def __init__(self, *readings):
        self.readings = iter(readings)

    def __iter__(self):
        return iter(next(self.readings))


def test_no_tasks_at_all(learner):
    with pytest.raises(UserError, match="no tasks to evaluate on"):
        evaluate(learner, [])


def segmentation_tasks():
    generator = np.random.default_rng(0)
    batch = {}
    for part in ("support", "query"):
        batch[f"{part}_x"] = generator.normal(size=(2, 2, 4, 4, 1)).astype("float32")
        batch[f"{part}_y"] = generator.integers(0, 3, (2, 2, 4, 4))
    return batch


@pytest.mark.slow
def test_segmentation_and_an_iterator_of_tasks():
    layers = [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, padding="same"), keras.layers.Conv2D(3, 1)]
    learner = MetaLearner(keras.Sequential(layers), way=3, inner_steps=1)
    learner.compile("sgd")
    tasks = segmentation_tasks()
    found = evaluate(learner, iter([tasks]), members=[lambda: None] * 2)
    assert found.value == pytest.approx(learner.evaluate(tasks, verbose=0, return_dict=True)["accuracy"])
    answers = learner.predict(tasks, verbose=0)
    assert answers.shape == (2, 2, 4, 4, 3)
    np.testing.assert_allclose(answers.sum(-1), 1, rtol=1e-5)


def test_softmax_of_any_rank(monkeypatch):
    """Some kernels refuse more than five axes; this one stands for them."""
    softmax = tf.nn.softmax

    def of_few_axes(x):
        assert x.shape.rank is None or x.shape.rank <= 5
        return softmax(x)

    monkeypatch.setattr(tf.nn, "softmax", of_few_axes)
    logits = tf.constant(np.random.default_rng(0).normal(size=(2, 2, 1, 2, 2, 3)))
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    unknown = tf.function(OutputKind().to_probabilities, input_signature=[tf.TensorSpec(None, tf.float64)])
    for values in (OutputKind().to_probabilities(logits), unknown(logits)):
        np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(unknown(logits[0, 0, 0]), expected[0, 0, 0])
