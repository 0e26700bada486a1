"""Substitutes of stock layers: the same numbers, other graphs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tf_mamlpp.layers import conversion, convolution
from tf_mamlpp.layers.conversion import convert_normalization, substitute
from tf_mamlpp.layers.convolution import Convolved, MatmulConv2D, NarrowConv2D
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.layers.pooling import DisjointMaxPooling2D
from tf_mamlpp.layers.step_context import convolution_of, inner_step


def convolution_and_norm(dtype="float64", **settings):
    """A convolution of few inputs and a batch norm after it, with weights that are no special case."""
    generator = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((9, 7, 2), dtype="float64" if dtype == "float64" else "float32"),
            layers.Conv2D(20, 3, name="conv", dtype=dtype, bias_initializer="normal", **settings),
            layers.BatchNormalization(name="norm", dtype=dtype),
        ]
    )
    converted = convert_normalization(model, 2, per_step_weights=True, per_step_statistics=True)
    for weight in converted.get_layer("norm").weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    return converted


def result(model, images, statistics, momentum):
    """Outputs, new statistics, and the second derivatives of a loss with an inner gradient."""
    weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]
    with tf.GradientTape() as outer:
        outer.watch(weights)
        with tf.GradientTape() as inner, inner_step(1, statistics, momentum):
            inner.watch(weights)
            outputs, state = model.stateless_call(weights, state, images, training=True)
            loss = tf.reduce_sum(tf.sin(outputs)) + tf.add_n([tf.reduce_sum(s**2) for s in state])
        first = inner.gradient(loss, weights)
        product = tf.add_n([tf.reduce_sum(tf.sin(g)) for g in first])
    return [outputs, *state, *first, *outer.gradient(product, weights)]


@pytest.mark.parametrize(
    ("statistics", "momentum"), [("batch", None), ("batch", 0.0), ("running", 1.0), ("running", None)]
)
@pytest.mark.parametrize(
    "settings",
    [{}, {"padding": "same", "strides": 2}, {"padding": "same", "dilation_rate": 2}, {"use_bias": False}],
    ids=str,
)
def test_a_narrow_convolution_and_its_norm_are_the_plain_ones(monkeypatch, settings, statistics, momentum):
    narrow = convolution_and_norm(**settings)
    assert type(narrow.get_layer("conv")) is NarrowConv2D
    monkeypatch.setattr(conversion, "is_narrow", lambda layer: False)
    plain = convolution_and_norm(**settings)
    assert type(plain.get_layer("conv")) is layers.Conv2D
    plain.set_weights(narrow.get_weights())

    images = tf.constant(np.random.default_rng(1).normal(3.0, 1.0, (4, 9, 7, 2)))
    pairs = list(
        zip(
            result(narrow, images, statistics, momentum),
            result(plain, images, statistics, momentum),
            strict=True,
        )
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.abs(b).max()))
    assert any(np.abs(a).max() > 0.1 for a, _ in pairs[-4:])


def test_the_norm_takes_the_short_way(monkeypatch):
    taken = []
    affine = convolution.Convolved.affine
    monkeypatch.setattr(convolution.Convolved, "affine", lambda *args: taken.append(1) or affine(*args))
    convolution_and_norm()(np.ones((2, 9, 7, 2)), training=True)
    assert taken


def test_outputs_that_something_has_touched_are_normalised_as_they_are():
    inputs = keras.Input((5, 5, 1))
    x = layers.ReLU()(layers.Conv2D(9, 3, name="conv")(inputs))
    model = convert_normalization(keras.Model(inputs, layers.BatchNormalization()(x)), 1)
    assert type(model.get_layer("conv")) is NarrowConv2D
    outputs = model(np.random.default_rng(0).normal(size=(4, 5, 5, 1)), training=True)
    np.testing.assert_allclose(np.mean(outputs, (0, 1, 2)), 0.0, atol=1e-5)
    assert convolution_of(outputs) is None


def test_half_precision_measures_in_single():
    model = convolution_and_norm("mixed_bfloat16", padding="same")
    images = np.random.default_rng(1).normal(size=(4, 9, 7, 2)).astype("float32")
    norm = model.get_layer("norm")
    before = norm.moving_variance.numpy()[-1]
    outputs = model(images, training=True)
    assert outputs.dtype == tf.bfloat16
    kernel, bias = (tf.cast(tf.cast(w, tf.bfloat16), tf.float32) for w in model.get_layer("conv").weights)
    rounded = tf.cast(tf.cast(images, tf.bfloat16), tf.float32)
    exact = tf.math.reduce_variance(tf.nn.conv2d(rounded, kernel, 1, "SAME") + bias, [0, 1, 2])
    expected = norm.momentum * before + (1 - norm.momentum) * exact
    np.testing.assert_allclose(norm.moving_variance.numpy()[-1], expected, rtol=1e-5)


def test_no_variance_is_negative():
    # Pictures of one colour each and kernels that sum to zero: all that is left is rounding.
    generator = np.random.default_rng(0)
    images = np.broadcast_to(generator.uniform(0, 255, (5, 1, 1, 3)), (5, 9, 7, 3)).astype("float32")
    kernel = generator.normal(size=(3, 3, 3, 64))
    kernel = tf.constant(kernel - kernel.mean((0, 1), keepdims=True), tf.float32)
    made = Convolved(tf.constant(images), kernel, None, lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"))
    variance = made.moments(tf.float32)[1].numpy()
    assert variance.min() == 0.0 and variance.max() < 1.0


def test_conversion_again_and_back():
    once = convolution_and_norm("float32")
    batched = convert_normalization(once, 2, True, True, batched_tasks=True)
    assert type(batched.get_layer("conv")) is MatmulConv2D and not batched.get_layer("norm").fused
    images = np.random.default_rng(0).normal(size=(4, 9, 7, 2)).astype("float32")
    np.testing.assert_allclose(batched(images, training=True), once(images, training=True), rtol=1e-4, atol=1e-5)
    again = convert_normalization(batched, 2, True, True, batched_tasks=True)
    assert type(again.get_layer("conv")) is MatmulConv2D


def test_what_is_replaced():
    def kind(layer, shape=(8, 8, 2)):
        layer.build((None, *shape))
        found = substitute(layer)
        assert found is None or found.get_config() == layer.get_config()
        return type(found)

    nothing = type(None)
    assert kind(layers.Conv2D(18, 3)) is NarrowConv2D
    assert kind(layers.Conv2D(17, 3)) is layers.Conv2D  # 18 inputs of a patch
    assert kind(layers.Conv2D(90, 1), (8, 8, 65)) is layers.Conv2D
    assert kind(layers.Conv2D(18, 3, activation="relu")) is layers.Conv2D
    assert kind(layers.Conv2D(18, 3, groups=2)) is nothing
    assert kind(layers.MaxPooling2D(2)) is DisjointMaxPooling2D
    assert kind(layers.MaxPooling2D(3, strides=2)) is nothing
    assert kind(layers.MaxPooling2D(2, padding="same")) is nothing
    assert kind(layers.MaxPooling2D(2, data_format="channels_first")) is nothing
    assert kind(layers.Dense(3)) is nothing
    assert kind(PerStepBatchNormalization(2)) is nothing


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "strides", "dilation"), [((3, 2), (1, 1), 1), (3, (2, 3), 1), (2, (1, 1), (2, 1)), (1, (1, 1), 2)]
)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_as_a_matrix_product(padding, size, strides, dilation, groups):
    settings = {"strides": strides, "padding": padding, "dilation_rate": dilation, "bias_initializer": "normal"}
    stock = layers.Conv2D(8, size, dtype="float64", groups=groups, **settings)
    images = np.random.default_rng(0).normal(size=(2, 7, 8, 4))
    expected = stock(images)
    product = MatmulConv2D.from_config(stock.get_config())
    product.build(images.shape)
    product.set_weights(stock.get_weights())
    np.testing.assert_allclose(product(images), expected, rtol=1e-12, atol=1e-14)
