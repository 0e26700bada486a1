"""`ExactLayerNormalization` and `ExactGroupNormalization` against the stock layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers.exact_norms import ExactGroupNormalization, ExactLayerNormalization

X = np.random.default_rng(2).normal(1.0, 2.0, (3, 4, 6, 6))
LAYER = keras.layers.LayerNormalization, ExactLayerNormalization
GROUP = keras.layers.GroupNormalization, ExactGroupNormalization
CASES = {
    "layer": (*LAYER, {}),
    "layer, axis 1": (*LAYER, {"axis": 1}),
    "layer, two axes": (*LAYER, {"axis": [-2, -1]}),
    "layer, no weights": (*LAYER, {"center": False, "scale": False}),
    "group": (*GROUP, {"groups": 2}),
    "group, axis 2": (*GROUP, {"groups": 3, "axis": 2}),
    "group, instance": (*GROUP, {"groups": -1}),
    "group, no weights": (*GROUP, {"groups": 1, "center": False, "scale": False}),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def pair(request, scatter):
    """The stock layer and ours with the same weights, as makers by dtype."""
    stock, exact, settings = request.param

    def make(dtype):
        layers = [kind(**settings, dtype=dtype) for kind in (stock, exact)]
        for layer in layers:
            layer.build(X.shape)
            scatter(layer)
        return layers

    return make


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("float64", 1e-12), ("mixed_float16", 2e-2)])
def test_forward_equals_the_stock_layer(pair, dtype, atol):
    stock, exact = pair(dtype)
    x = tf.cast(X, stock.compute_dtype)
    out = exact(x)
    assert out.dtype == stock.compute_dtype
    np.testing.assert_allclose(out, stock(x), rtol=0, atol=atol)


def errors(layer, derivative_errors):
    def function(x, *weights):
        return tf.reduce_sum(tf.tanh(layer.stateless_call(weights, [], x)[0]) * np.cos(X))

    return derivative_errors(function, [X, *(v.numpy() for v in layer.trainable_variables)])


def test_derivatives_are_exact_and_the_stock_ones_are_not(pair, derivative_errors):
    stock, exact = pair("float64")
    assert max(errors(exact, derivative_errors)) < 1e-7
    assert errors(stock, derivative_errors)[1] > 1e-4


def test_saved_and_loaded(pair, tmp_path):
    _, exact = pair("float32")
    model = keras.Sequential([keras.Input(X.shape[1:]), exact])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1]) is type(exact)
    np.testing.assert_array_equal(loaded(X), model(X))


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
def test_the_deprecated_rms_scaling_is_kept():
    stock, exact = (kind(rms_scaling=True, dtype="float64") for kind in LAYER)
    np.testing.assert_allclose(exact(X), stock(X), rtol=0, atol=1e-12)
