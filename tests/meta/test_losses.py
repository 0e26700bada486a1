"""Losses and metrics as Keras computes them: shapes, masks, state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.losses import mean_loss
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task_metrics import metric_function, metric_name

NAMES = ["poisson", "hinge", "squared_hinge", "mean_squared_error", "mean_absolute_error", "huber", "log_cosh"]
NAMES += [
    "mean_squared_logarithmic_error",
    "mean_absolute_percentage_error",
    "binary_crossentropy",
    "cosine_similarity",
]


def custom(labels, outputs):
    return tf.reduce_mean(tf.abs(labels - outputs), -1)


@pytest.mark.parametrize("loss", [*NAMES, "Poisson", "Hinge", custom])
@pytest.mark.parametrize("shapes", [((6,), (6, 1)), ((6, 1), (6, 1)), ((6, 2), (6, 2, 1)), ((6, 1), (6,))])
def test_shapes_are_matched_as_in_a_stock_model(loss, shapes):
    """`compile_utils.CompileLoss` is what `compile(loss=...)` makes."""
    generator = np.random.default_rng(0)
    labels, outputs = (tf.constant(generator.uniform(0.1, 0.9, shape), "float32") for shape in shapes)
    if loss is custom and len(shapes[1]) == 1:
        pytest.skip("a mean over the last of no axes")
    model = keras.Sequential([keras.Input(shapes[1][1:] or (1,)), keras.layers.Identity()])
    model.compile(loss=loss)
    expected = model.compute_loss(y=labels, y_pred=outputs)
    assert float(mean_loss(loss, "float32")(labels, outputs)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", ["poisson", pytest.param("hinge", marks=pytest.mark.slow)])
def test_flat_targets_train_as_targets_with_an_axis(make_tasks, loss):
    tasks = make_tasks(shape=(4,))
    for part in ("support", "query"):
        tasks[f"{part}_labels"] = tf.abs(tasks[f"{part}_images"][..., 0])
    with_axis = {k: v[..., tf.newaxis] if "labels" in k else v for k, v in tasks.items()}
    stack = [keras.layers.Dense(5, "tanh", dtype="float64"), keras.layers.Dense(1, "softplus", dtype="float64")]
    net = keras.Sequential([keras.Input((4,), dtype="float64"), *stack])
    learner = mp.MetaLearner(net, inner_steps=1, loss=loss)
    flat, deep = (learner.meta_gradient(t) for t in (tasks, with_axis))
    for a, b in zip(flat[0], deep[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    assert learner.metric_name == loss and float(flat[2][loss]) == pytest.approx(float(flat[2]["loss"]), rel=1e-6)
    found = [mp.evaluate(learner, [t]) for t in (tasks, with_axis)]
    assert found[0].per_task.shape == (2, 2)
    np.testing.assert_allclose(found[0].per_task, found[1].per_task, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_ignored_classes_do_not_count(reduction):
    labels, outputs = tf.constant([0, -1, 2, 1]), tf.random.stateless_normal((4, 3), (0, 0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1, reduction=reduction)
    assert float(mean_loss(loss, "float32")(labels, outputs)) == pytest.approx(float(loss(labels, outputs)), rel=1e-6)


def test_masked_steps_do_not_count():
    loss = keras.losses.MeanSquaredError()
    labels, outputs = tf.zeros((1, 3, 2)), tf.ones((1, 3, 2)) * tf.constant([[[1.0], [2.0], [3.0]]])
    outputs._keras_mask = tf.constant([[True, False, True]])
    assert float(mean_loss(loss, "float32")(labels, outputs)) == pytest.approx(5.0) == float(loss(labels, outputs))


@pytest.mark.slow_cases("metric0")
@pytest.mark.parametrize(
    "metric",
    [
        keras.metrics.SparseTopKCategoricalAccuracy(k=2),
        pytest.param(keras.metrics.SparseCategoricalCrossentropy(), marks=pytest.mark.slow),
        keras.metrics.SparseCategoricalCrossentropy(from_logits=True),
        "sparse_categorical_crossentropy",
    ],
)
def test_a_metric_with_state_measures_each_task_alone(make_tasks, metric):
    tasks = make_tasks(tasks=3, shape=(4,), query_shot=4, dtype="float32")
    learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=1, inner_rate=0.5, metric=metric)
    learner.compile(keras.optimizers.SGD(0.0))
    logits = learner.curves(tasks)[:, -1]
    log = tf.nn.log_softmax(logits).numpy()
    right = np.take_along_axis(log, tasks["query_labels"].numpy()[..., None], -1)
    if "crossentropy" in learner.metric_name:
        expected = -right.mean()
    else:
        expected = (np.sum(log > right, -1) < (2 if "top_k" in learner.metric_name else 1)).mean()
    data = tf.data.Dataset.from_tensors(tasks).repeat(2)
    found = learner.evaluate(data, verbose=0, return_dict=True)
    assert float(found[learner.metric_name]) == pytest.approx(expected, rel=1e-5)
    if isinstance(metric, keras.metrics.SparseTopKCategoricalAccuracy):
        assert learner.fit(data, verbose=0).history[learner.metric_name] == pytest.approx([expected], rel=1e-4)
    assert mp.evaluate(learner, [tasks]).value == pytest.approx(expected, rel=1e-5)
    if isinstance(metric, keras.metrics.Metric):
        assert all((v.numpy() == 0).all() for v in metric.variables)


def test_metrics_that_are_none():
    for metric, message in (
        (keras.metrics.Metric, "is not one of keras.metrics"),
        (keras.metrics.F1Score(), "makes its state with the first data"),
        ("MeanIoU", "needs arguments: give the object, keras.metrics.MeanIoU"),
    ):
        with pytest.raises(UserError, match=message):
            metric_function(metric, OutputKind())
    with pytest.raises(UserError, match="metric 'accuracy' needs classes"):
        metric_function("accuracy", OutputKind(values=True))


def test_names_of_metrics():
    named = {None: "accuracy", "acc": "accuracy", "mean_squared_error": "mean_squared_error", custom: "custom"}
    assert {m: metric_name(m, OutputKind(), None) for m in named} == named
    assert metric_name(keras.metrics.AUC(name="area"), OutputKind(), None) == "area"

    def loss(labels, outputs):
        return 0

    assert metric_name(loss, OutputKind(), None) == metric_name(lambda *_: 0, OutputKind(), None) == "metric"
