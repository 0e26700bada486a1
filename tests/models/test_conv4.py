import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.gradient_check import check_meta_gradient
from tf_mamlpp.models.conv4 import conv4, leaky_relu


def test_conv4_is_the_papers_network():
    model = conv4((28, 28, 1), 5)
    # four 3x3 convolutions with biases, gamma and beta of four batch norms, 64 features to 5 logits
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 640 + 3 * 36928 + 4 * 128 + 325
    assert model(tf.zeros((2, 28, 28, 1))).shape == (2, 5)


def test_activation_after_the_pool_is_the_papers_order_for_less(scatter):
    model = scatter(conv4((8, 8, 2), 3, filters=4, blocks=2))
    x = y = tf.constant(np.random.default_rng(5).normal(size=(3, 8, 8, 2)), tf.float32)
    for i in range(2):
        y = leaky_relu(model.get_layer(f"norm{i}")(model.get_layer(f"conv{i}")(y)))
        y = model.get_layer(f"pool{i}")(y)
    y = model.get_layer("dense")(model.get_layer("flatten")(y))
    np.testing.assert_allclose(model(x), y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 28, 1), (28, 15, 3)])
def test_pictures_too_small_are_refused(shape):
    with pytest.raises(UserError, match="conv4 halves pictures 4 times"):
        conv4(shape, 5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_leaky_relu(dtype):
    x = np.array([-2.0, -0.5, 0.0, 3.0])
    out = leaky_relu(tf.constant(x, dtype))
    assert out.dtype == dtype
    atol = {"float16": 1e-3, "float32": 1e-7, "float64": 1e-17}[dtype]
    np.testing.assert_allclose(out, np.where(x > 0, x, 0.01 * x), rtol=0, atol=atol)


def test_float64_is_not_rounded_on_the_way():
    x = np.full((1, 8, 8, 1), 1 + 1e-12)
    model = conv4((8, 8, 1), 3, 2, 2, dtype="float64")
    assert np.abs(model(x) - model(np.ones_like(x))).max() > 0


def test_conv4_is_saved_and_loaded(tmp_path, scatter):
    model = scatter(conv4((8, 8, 1), 3, filters=2, blocks=2))
    model.save(tmp_path / "model.keras")
    x = tf.ones((1, 8, 8, 1))
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def test_strided_conv4_halves_by_strides_and_averages_at_the_end(scatter):
    model = scatter(conv4((13, 10, 2), 3, filters=4, blocks=2, strided=True))
    assert not any(isinstance(layer, keras.layers.MaxPooling2D) for layer in model.layers)
    x = y = tf.constant(np.random.default_rng(5).normal(size=(3, 13, 10, 2)), tf.float32)
    for i in range(2):
        kernel, bias = model.get_layer(f"conv{i}").weights
        y = tf.nn.conv2d(y, kernel.value, 2, [[0, 0], [1, 1], [1, 1], [0, 0]]) + bias
        y = leaky_relu(model.get_layer(f"norm{i}")(y))
    assert y.shape == (3, 4, 3, 4)
    np.testing.assert_allclose(model(x), model.get_layer("dense")(tf.reduce_mean(y, [1, 2])), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strided", [False, True])
def test_finite_differences(make_tasks, plus_learner, worst_deviation, strided):
    model = conv4((8, 8, 1), 3, filters=3, blocks=3, strided=strided, dtype="float64")
    assert worst_deviation(plus_learner(model), make_tasks(tasks=1)) < 1e-6


@pytest.mark.slow
def test_the_self_check_passes_a_strided_network(make_tasks):
    model = conv4((8, 8, 1), 3, filters=2, blocks=1, strided=True)
    assert max(check_meta_gradient(model, make_tasks(tasks=1), way=3, inner_steps=2).values()) < 1e-6


@pytest.mark.parametrize("strided", [False, True])
def test_pictures_are_channels_last_whatever_keras_is_told(strided):
    keras.config.set_image_data_format("channels_first")
    try:
        model = conv4((16, 16, 3), 5, filters=2, blocks=2, strided=strided)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.output_shape == (None, 5) and model.get_layer("conv1").data_format == "channels_last"
    assert model.get_layer("conv0").kernel.shape == (3, 3, 3, 2)
