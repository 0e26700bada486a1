"""`PerStepBatchNormalization`: rows, statistics, derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers.batch_norms import per_step_drift
from tf_mamlpp.layers.exact_norms import moments
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.layers.step_context import inner_step

X = np.random.default_rng(1).normal(1.5, 2.0, (6, 4, 4, 3))
MEAN, VARIANCE = X.mean((0, 1, 2)), X.var((0, 1, 2))
BOTH = pytest.mark.parametrize("weights", [True, False]), pytest.mark.parametrize("statistics", [True, False])


@pytest.fixture
def layer_of(scatter):
    def make(inner_steps=3, shape=X.shape, **kwargs):
        layer = PerStepBatchNormalization(inner_steps, dtype="float64", **kwargs)
        layer.build((None, *shape[1:]))
        return scatter(layer)

    return make


def row(table, k, per_step):
    return table.numpy()[k] if per_step else table.numpy()


def expected(layer, mean, variance, k):
    gamma, beta = (row(table, k, layer.per_step_weights) for table in (layer.gamma, layer.beta))
    return (X - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


@BOTH[0]
@BOTH[1]
def test_each_table_has_rows_or_not(layer_of, weights, statistics):
    layer = layer_of(per_step_weights=weights, per_step_statistics=statistics)
    assert layer.gamma.shape == layer.beta.shape == ((3, 3) if weights else (3,))
    assert layer.moving_mean.shape == layer.moving_variance.shape == ((3, 3) if statistics else (3,))
    assert [v.path.split("/")[-1] for v in layer.trainable_variables] == ["gamma", "beta"]


@BOTH[0]
@BOTH[1]
@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_a_step_reads_its_row_and_later_steps_the_last(layer_of, weights, statistics, step):
    layer = layer_of(per_step_weights=weights, per_step_statistics=statistics)
    k = min(step, 2)
    with inner_step(step, "batch", momentum=1.0):
        np.testing.assert_allclose(layer(X), expected(layer, MEAN, VARIANCE, k), rtol=0, atol=1e-12)
    moving = [row(table, k, statistics) for table in (layer.moving_mean, layer.moving_variance)]
    with inner_step(step, "running", momentum=1.0):
        np.testing.assert_allclose(layer(X), expected(layer, *moving, k), rtol=0, atol=1e-12)


@BOTH[1]
@pytest.mark.parametrize("reads", ["batch", "running"])
@pytest.mark.parametrize(("momentum", "kept"), [(None, 0.8), (0.25, 0.25), (0.0, 0.0), (1.0, 1.0)])
def test_a_step_writes_its_row_alone(layer_of, statistics, reads, momentum, kept):
    layer = layer_of(per_step_statistics=statistics, momentum=0.8)
    before = [table.numpy() for table in (layer.moving_mean, layer.moving_variance)]
    with inner_step(1, reads, momentum):
        layer(X, training=True)
    rows = [1] if statistics else slice(None)
    for old, table, batch in zip(before, (layer.moving_mean, layer.moving_variance), (MEAN, VARIANCE), strict=True):
        old[rows] = kept * old[rows] + (1 - kept) * batch
        np.testing.assert_allclose(table.numpy(), old, rtol=0, atol=1e-12)


def test_running_reads_before_it_writes(layer_of):
    layer = layer_of()
    before = layer.moving_mean.numpy()[0], layer.moving_variance.numpy()[0]
    with inner_step(0, "running"):
        np.testing.assert_allclose(layer(X), expected(layer, *before, 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_a_frozen_layer_infers_and_writes_nothing(layer_of, statistics):
    layer = layer_of()
    layer.trainable = False
    before = [v.numpy() for v in layer.variables]
    with inner_step(1, statistics):
        out = layer(X, training=True)
    np.testing.assert_allclose(out, expected(layer, before[2][1], before[3][1], 1), rtol=0, atol=1e-12)
    for old, v in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(v.numpy(), old)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, True), (True, False), (False, False)])
def test_alone_it_acts_as_the_stock_layer(layer_of, training, center, scale):
    ours = layer_of(1, center=center, scale=scale, momentum=0.7, epsilon=1e-3)
    stock = keras.layers.BatchNormalization(center=center, scale=scale, momentum=0.7, epsilon=1e-3, dtype="float64")
    stock.build((None, *X.shape[1:]))
    for a, b in zip(ours.variables, stock.variables, strict=True):
        b.assign(a.numpy()[0])
    np.testing.assert_allclose(ours(X, training=training), stock(X, training=training), rtol=0, atol=1e-12)
    for a, b in zip(ours.variables, stock.variables, strict=True):
        np.testing.assert_allclose(a.numpy()[0], b.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_any_axis_can_hold_the_channels(layer_of, statistics):
    last = layer_of()
    first = PerStepBatchNormalization(3, axis=1, dtype="float64")
    first.build((None, 3, 4, 4))
    for a, b in zip(last.variables, first.variables, strict=True):
        b.assign(a)
    with inner_step(2, statistics):
        moved = np.moveaxis(first(np.moveaxis(X, 3, 1)), 1, 3)
        np.testing.assert_allclose(moved, last(X), rtol=0, atol=1e-12)
    np.testing.assert_allclose(first.moving_variance.numpy(), last.moving_variance.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("keepdims", [True, False])
def test_moments(keepdims):
    mean, variance = moments(tf.constant(X), [0, 2], keepdims)
    np.testing.assert_allclose(mean, X.mean((0, 2), keepdims=keepdims), rtol=1e-12)
    np.testing.assert_allclose(variance, X.var((0, 2), keepdims=keepdims), rtol=1e-12)


def projected(layer, direction, **kwargs):
    """A scalar function of the inputs and trainable weights, curved in all of them."""

    def function(x, *weights):
        state = [tf.convert_to_tensor(v) for v in layer.non_trainable_variables]
        out, _ = layer.stateless_call(weights, state, x, **kwargs)
        return tf.reduce_sum(tf.tanh(out) * direction)

    return function


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("step", [0, 2])
def test_first_and_second_derivatives(layer_of, derivative_errors, statistics, step):
    layer = layer_of()
    points = [X, *(v.numpy() for v in layer.trainable_variables)]
    with inner_step(step, statistics):
        errors = derivative_errors(projected(layer, np.cos(X)), points)
    assert max(errors) < 1e-7


def test_the_stock_layer_fails_that_test(derivative_errors, scatter):
    layer = keras.layers.BatchNormalization(dtype="float64")
    layer.build(X.shape)
    scatter(layer)
    points = [X, *(v.numpy() for v in layer.trainable_variables)]
    first, second = derivative_errors(projected(layer, np.cos(X), training=True), points)
    assert first < 1e-7
    assert second > 1e-4


def test_momentum_0_passes_gradients_and_others_stop_them(layer_of, derivative_errors):
    layer = layer_of()
    weights = [tf.convert_to_tensor(v) for v in layer.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in layer.non_trainable_variables]

    def statistics(momentum):
        def function(x):
            with inner_step(1, "batch", momentum):
                _, (mean, variance) = layer.stateless_call(weights, state, x)
            return tf.reduce_sum(tf.tanh(mean[1]) * [1.0, 2.0, 3.0]) + tf.reduce_sum(variance[1] ** 2)

        return function

    assert max(derivative_errors(statistics(0.0), [X])) < 1e-7
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = statistics(0.5)(x)
    assert tape.gradient(value, x) is None


def test_drift_is_the_distance_to_the_first_step_s_row(layer_of):
    layer = layer_of(per_step_weights=True)
    model = keras.Sequential([keras.Input(X.shape[1:], dtype="float64"), layer])
    found = dict(per_step_drift(model))
    assert [path.rpartition("/")[2] for path in found] == ["gamma", "beta"]
    for table, drift in zip((layer.gamma, layer.beta), found.values(), strict=True):
        expected = [np.linalg.norm(table.numpy()[k] - table.numpy()[0]) / np.sqrt(3) for k in range(3)]
        np.testing.assert_allclose(drift, expected, rtol=1e-12)
    assert list(per_step_drift(keras.Sequential([keras.Input(X.shape[1:]), layer_of(per_step_weights=False)]))) == []


def test_saved_and_loaded(tmp_path, scatter):
    settings = {
        "inner_steps": 4,
        "per_step_weights": False,
        "per_step_statistics": True,
        "axis": 1,
        "momentum": 0.6,
        "epsilon": 0.01,
        "center": False,
        "scale": True,
    }
    model = keras.Sequential([keras.Input((3, 4)), PerStepBatchNormalization(**settings, name="norm")])
    scatter(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    config = loaded.get_layer("norm").get_config()
    assert {k: config[k] for k in settings} == settings
    for step in range(5):
        with inner_step(step, "running"):
            x = X[:, :3, :, 0].astype("float32")
            np.testing.assert_array_equal(loaded(x), model(x))


def test_refusals(layer_of):
    with pytest.raises(ValueError, match="inner_steps must be at least 1, not 0"):
        PerStepBatchNormalization(0)
    with pytest.raises(ValueError, match="norm: the size of axis -1 must be known"):
        PerStepBatchNormalization(1, name="norm").build((None, 3, None))


@pytest.mark.parametrize("training", [True, False])
def test_what_is_masked_counts_as_in_keras(layer_of, training):
    mask = np.random.default_rng(1).random(X.shape[:-1]) < 0.6
    stock = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float64")
    ours = PerStepBatchNormalization(1, dtype="float64")
    outputs = [layer(X, mask=mask, training=training) for layer in (stock, ours)]
    np.testing.assert_allclose(*outputs, rtol=1e-12)
    np.testing.assert_allclose(ours.moving_variance[0], stock.moving_variance, rtol=1e-12)
    assert ours.supports_masking
