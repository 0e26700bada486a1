"""Resizing: the numbers of TensorFlow's, and second derivatives that it lacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers.resizing import ExactResizing, ExactUpSampling2D, resize
from tf_mamlpp.layers.second_order_ops import first_order_only
from tf_mamlpp.meta.second_derivatives import second_derivative_error

INTERPOLATIONS = ["bilinear", "bicubic", "nearest", "lanczos3", "area"]
IMAGES = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype("float32")


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_are_tensorflows(interpolation, antialias, dtype):
    for size in [(14, 9), (3, 10), (7, 5)]:
        ours = resize(tf.cast(IMAGES, dtype), size, interpolation, antialias)
        theirs = tf.image.resize(IMAGES, size, interpolation, antialias=antialias)
        assert ours.dtype == dtype and ours.shape == (2, *size, 3)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_half_precision_and_other_orders_of_axes():
    half = resize(tf.cast(IMAGES, "float16"), (14, 9))
    assert half.dtype == tf.float16
    np.testing.assert_allclose(half, tf.image.resize(IMAGES, (14, 9)), atol=1e-2)
    for dtype in ("float32", "float64"):
        first = resize(tf.cast(IMAGES.transpose(0, 3, 1, 2), dtype), (14, 9), data_format="channels_first")
        np.testing.assert_allclose(tf.transpose(first, (0, 2, 3, 1)), tf.image.resize(IMAGES, (14, 9)), atol=1e-6)
        np.testing.assert_allclose(
            resize(tf.cast(IMAGES[0], dtype), (4, 4)), tf.image.resize(IMAGES[0], (4, 4)), atol=1e-6
        )


def second(images, interpolation):
    """Of a sum of sines of the resized pictures, along fixed directions."""
    directions = tf.cast(IMAGES[::-1], images.dtype)

    @tf.function(autograph=False)
    def derivative(images):
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                total = tf.reduce_sum(tf.sin(resize(images, (14, 9), interpolation)))
            product = tf.reduce_sum(inner.gradient(total, images) * directions)
        return outer.gradient(product, images)

    return derivative(images)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_second_derivatives_are_exact(interpolation):
    exact = tf.cast(IMAGES, "float64")
    assert second_derivative_error(lambda x: resize(x, (9, 6), interpolation), [exact]) < 1e-6
    np.testing.assert_allclose(second(tf.constant(IMAGES), interpolation), second(exact, interpolation), atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_layers_are_the_stock_ones(data_format):
    images = IMAGES if data_format == "channels_last" else IMAGES.transpose(0, 3, 1, 2)
    for exact, stock, settings in [
        (ExactUpSampling2D, keras.layers.UpSampling2D, {"size": (2, 3), "interpolation": "bilinear"}),
        (ExactUpSampling2D, keras.layers.UpSampling2D, {"size": 2}),
        (ExactResizing, keras.layers.Resizing, {"height": 9, "width": 4, "interpolation": "bicubic"}),
    ]:
        settings["data_format"] = data_format
        layer = exact(**settings)
        expected = stock(**settings)(images)
        np.testing.assert_allclose(layer(images), expected, atol=1e-6)
        with first_order_only():
            np.testing.assert_array_equal(layer(images), expected)
        restored = exact.from_config(layer.get_config())
        np.testing.assert_array_equal(restored(images), layer(images))


def test_sizes_that_are_not_known_when_it_is_traced():
    for dtype in ("float32", "float64"):
        images = keras.Input((None, None, 3), dtype=dtype)
        model = keras.Model(images, ExactUpSampling2D(2, interpolation="bilinear", dtype=dtype)(images))
        traced = tf.function(model, autograph=False, input_signature=[tf.TensorSpec((None, None, None, 3), dtype)])
        np.testing.assert_allclose(traced(tf.cast(IMAGES, dtype)), tf.image.resize(IMAGES, (14, 10)), atol=1e-6)
