"""Keras's own normalisation: exact inside a learner's pass, wherever it sits, and as ever outside."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.layers.step_context import inner_step
from tf_mamlpp.layers.stock_norms import _batch_norm_of_keras, _moments_of_keras
from tf_mamlpp.meta.second_derivatives import second_derivative_error

layers = keras.layers
X = np.random.default_rng(0).normal(size=(5, 3, 4)) + 0.5
NORMS = {
    "layer": lambda: layers.LayerNormalization(epsilon=0.1, dtype="float64"),
    "group": lambda: layers.GroupNormalization(2, epsilon=0.1, dtype="float64"),
    "batch": lambda: layers.BatchNormalization(epsilon=0.1, dtype="float64"),
}


@pytest.mark.parametrize("kind", NORMS)
def test_second_derivatives_are_exact_in_a_pass_alone(kind):
    layer = NORMS[kind]()
    layer.build(X.shape)

    def call(x):
        with keras.StatelessScope():
            return layer(x, training=True) if kind == "batch" else layer(x)

    assert second_derivative_error(call, [tf.constant(X)]) > 1e-4  # what Keras computes
    with inner_step(0):
        assert second_derivative_error(call, [tf.constant(X)]) < 1e-7


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axes", [0, -1, (0, 2)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_moments_are_those_of_keras(dtype, axes, keepdims):
    x = tf.constant(X, dtype)
    with inner_step(0):
        found = keras.ops.moments(x, axes, keepdims)
    for a, b in zip(found, _moments_of_keras(x, axes, keepdims), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("momentum", [None, 0.0, 1.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_does_what_a_per_step_one_of_one_row_does(statistics, momentum, masked, frozen, scatter):
    settings = {"momentum": 0.7, "epsilon": 0.1, "dtype": "float64", "trainable": not frozen}
    stock = layers.BatchNormalization(**settings)
    ours = PerStepBatchNormalization(1, per_step_weights=False, per_step_statistics=False, **settings)
    mask = np.random.default_rng(1).random(X.shape[:-1]) < 0.6 if masked else None
    outputs = []
    for layer in (stock, ours):
        layer.build(X.shape)
        scatter(layer)
        with inner_step(0, statistics, momentum):
            outputs.append(layer(X, mask=mask))
    np.testing.assert_allclose(*outputs, rtol=1e-12)
    for a, b in zip(stock.variables, ours.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_outside_of_a_pass_batch_norm_is_kerass(training):
    found = []
    for call in (None, _batch_norm_of_keras):
        layer = layers.BatchNormalization()
        layer.build(X.shape)
        x = tf.constant(X, tf.float32)
        outputs = layer(x, training=training) if call is None else call(layer, x, training=training)
        found.append([outputs.numpy(), *layer.get_weights()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [layers.BatchNormalization, lambda: PerStepBatchNormalization(2)])
def test_a_second_call_reads_what_was_there_before_the_pass(make):
    layer = make()
    layer.build(X.shape)
    with inner_step(0, "running"):
        first, second = layer(X).numpy(), layer(X).numpy()
    np.testing.assert_array_equal(first, second)
    assert np.abs(layer.moving_mean.numpy()).max() > 0


def test_a_second_call_has_no_support_statistics():
    layer = layers.BatchNormalization(name="norm")
    layer.build(X.shape)
    with inner_step(0, "batch", momentum=0.0), pytest.raises(UserError, match="'norm' is called more than once"):
        layer(layer(X))
