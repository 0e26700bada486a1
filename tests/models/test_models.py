"""The backbones."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.prototypical_networks import without_head
from tf_mamlpp.models.by_name import build
from tf_mamlpp.models.conv4 import conv4, leaky_relu
from tf_mamlpp.models.mlp import mlp
from tf_mamlpp.models.resnet12 import resnet12


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


@pytest.mark.parametrize("shape", [(28, 28), (8, 28, 1), (28, 15, 3)])
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


def test_mlp_is_the_sinusoid_network():
    model = mlp((1,), 1)
    assert [v.shape for v in model.trainable_variables] == [(1, 40), (40,), (40, 40), (40,), (40, 1), (1,)]
    assert mlp((4, 4, 2), 3, units=(5,))(tf.zeros((2, 4, 4, 2))).shape == (2, 3)


def test_float64_is_not_rounded_on_the_way():
    x = np.full((1, 8, 8, 1), 1 + 1e-12)
    for model in (conv4((8, 8, 1), 3, 2, 2, dtype="float64"), mlp((8, 8, 1), 3, (4,), dtype="float64")):
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


def test_resnet12_is_the_network_of_the_literature():
    model = resnet12((84, 84, 3), 5)
    kernels = [v.shape for v in model.trainable_variables if v.path.endswith("kernel")]
    assert [k for k in kernels if k[0] == 3 and len(k) == 4] == [
        (3, 3, before, width)
        for start, width in ((3, 64), (64, 160), (160, 320), (320, 640))
        for before in (start, width, width)
    ]
    # 12 convolutions and 4 shortcuts, and the head: 640 * 5 + 5
    assert sum(int(np.prod(k)) for k in kernels) == 12_414_848 + 640 * 5
    assert model.get_layer("pool3").output.shape == (None, 5, 5, 640)
    assert model.output.shape == (None, 5)


def test_a_residual_block_by_hand(scatter):
    model = scatter(resnet12((5, 4, 2), 3, widths=(4,), dtype="float64"))
    x = y = tf.constant(np.random.default_rng(6).normal(size=(2, 5, 4, 2)))

    def conv_norm(x, name):
        return model.get_layer(f"norm{name}")(model.get_layer(f"conv{name}")(x))

    def rise(x):
        return tf.maximum(x, 0.1 * x)

    y = conv_norm(rise(conv_norm(rise(conv_norm(y, "0_0")), "0_1")), "0_2") + conv_norm(x, "0_shortcut")
    y = tf.nn.max_pool2d(rise(y), 2, 2, "VALID")
    np.testing.assert_allclose(model(x), model.get_layer("dense")(tf.reduce_mean(y, [1, 2])), rtol=0, atol=1e-7)


def test_resnet12_refuses_pictures_too_small():
    with pytest.raises(UserError, match="resnet12 halves pictures 4 times"):
        resnet12((15, 28, 1), 5)


def test_networks_of_keras_applications(tmp_path):
    model = build("keras:MobileNetV3Small", (32, 32, 3), 7)
    assert model.output.shape == (None, 7)
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    body = keras.Model(model.input, model.layers[-1].input)
    body.save_weights(tmp_path / "body.weights.h5")
    other = build("keras:MobileNetV3Small", (32, 32, 3), 4, weights=str(tmp_path / "body.weights.h5"))
    np.testing.assert_array_equal(other.get_layer("conv").kernel, model.get_layer("conv").kernel)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "keras:NoNet"}, "keras.applications has no network 'NoNet'; it has .*MobileNetV3Small"),
        ({"name": "keras:VGG16", "weights": "none.h5"}, "weights file 'none.h5' not found"),
        ({"name": "keras:VGG16"}, "network 'VGG16' cannot be built: .*32"),
        ({"name": "no_such_module:f"}, "model 'no_such_module:f' cannot be imported: No module"),
        ({"name": "json:loads_all"}, "model 'json:loads_all' cannot be imported: .*has no attribute"),
        ({"name": "operator:contains"}, "operator:contains returns a bool, not a keras.Model"),
    ],
)
def test_models_that_cannot_be_built(settings, message):
    with pytest.raises(UserError, match=message):
        build(shape=(8, 8, 3), outputs=3, **settings)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def net(:", "cannot be imported: .*invalid syntax"),
        ("raise RuntimeError('two\\nlines')", "cannot be imported: two lines"),
        ("net = 3", "cannot be built: TypeError: 'int' object is not callable"),
        ("def net(shape): pass", r"cannot be built: TypeError: .*; it is called as net\(\(4,\), 3\)"),
        ("def net(shape, outputs): return outputs / 0", "cannot be built: ZeroDivisionError"),
    ],
)
def test_mistakes_in_a_module_of_the_users_own(tmp_path, monkeypatch, code, message):
    (tmp_path / "wrong_nets.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong_nets", raising=False)
    with pytest.raises(UserError, match=f"model 'wrong_nets:net' {message}") as caught:
        build("wrong_nets:net", (4,), 3)
    assert "\n" not in str(caught.value) and caught.value.__cause__
    sys.modules.pop("wrong_nets", None)


def test_a_model_of_the_users_own(tmp_path, monkeypatch):
    code = (
        "import keras\n"
        "def net(shape, outputs):\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Dense(outputs)])\n"
    )
    (tmp_path / "my_nets.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    model = build("my_nets:net", (4,), 3, dtype="mixed_bfloat16")
    assert model.layers[-1].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_without_head():
    model = conv4((8, 8, 1), 3, filters=2, blocks=2)
    x = tf.ones((2, 8, 8, 1))
    np.testing.assert_array_equal(model.get_layer("dense")(without_head(model)(x)), model(x))
    assert without_head(resnet12((8, 8, 1), 3, (2, 3))).output.shape == (None, 3)
    headless = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.ReLU()], name="mine")
    with pytest.raises(UserError, match="model 'mine' does not end in a Dense layer"):
        without_head(headless)
