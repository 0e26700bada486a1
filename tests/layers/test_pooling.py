"""Max-pools: TensorFlow's values, and exact second derivatives in a graph."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers import pooling
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.second_order_ops import first_order_only
from tf_mamlpp.meta.second_derivatives import second_derivative_error

layers = keras.layers
SHAPES = [(5,), (5, 6), (1, 1), (1, 4), (4, 3, 4)]


def draw(shape, dtype):
    count = int(np.prod(shape))
    return tf.constant((np.random.default_rng(0).permutation(count) / count * 3).reshape(shape), dtype)


FIRST = [size if size == (5, 6) else pytest.param(size, marks=pytest.mark.slow) for size in SHAPES]


def each(sizes, data_format):
    return [pytest.param(*getattr(s, "values", (s,)), data_format, marks=getattr(s, "marks", ())) for s in sizes]


@pytest.mark.slow_cases(
    "(5,)-channels_last",
    "(5, 6)-channels_last",
    "(1, 4)-channels_last",
    "(4, 3, 4)-channels_last",
    "(5, 6)-channels_first",
)
@pytest.mark.parametrize(
    ("size", "data_format"), [*each(SHAPES, "channels_last"), *each(FIRST, "channels_first")], ids=str
)
def test_stock_values_and_exact_second_derivatives(size, data_format):
    axes, dtype = len(size), "float32" if len(size) == 3 else "float64"  # TensorFlow has no 3-D pool in float64
    x = draw((2, *size, 3) if data_format == "channels_last" else (2, 3, *size), dtype)
    tolerance = 1e-2 if dtype == "float32" else 1e-8
    for window, strides, padding in itertools.product((1, 2, 3), (1, 2, (1, 2, 1)[:axes]), ("same", "valid")):
        if padding == "valid" and window > min(size):
            continue
        stock, exact = (
            getattr(module, f"{name}MaxPooling{axes}D")(window, strides, padding, data_format, dtype=dtype)
            for module, name in ((layers, ""), (pooling, "Exact"))
        )
        case = f"{window} {strides} {padding}"
        free = tf.function(exact, input_signature=[tf.TensorSpec([None, *exact_free(x.shape, data_format)], dtype)])
        for values in (exact(x), free(x)):
            np.testing.assert_array_equal(values, stock(x), err_msg=case)
        assert second_derivative_error(exact, [x]) < tolerance, case
        # TensorFlow's own are wrong where `keeps_shape` says so, and only there.  Where they are right everywhere, a
        # new TensorFlow has mended its kernel.
        wrong = pooling.keeps_shape(stock.pool_size, stock.strides, padding, size)
        assert (second_derivative_error(stock, [x]) > tolerance) == wrong, case


def exact_free(shape, data_format):
    """Of a shape without its first axis, the same with unknown sizes."""
    return (
        [None] * (len(shape) - 2) + [shape[-1]]
        if data_format == "channels_last"
        else [shape[1]] + [None] * (len(shape) - 2)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_other_dtypes(dtype):
    x = draw((1, 4, 4, 2), dtype) - 5
    np.testing.assert_array_equal(
        pooling.ExactMaxPooling2D(3, 1, "same", dtype=dtype)(x), layers.MaxPooling2D(3, 1, "same", dtype=dtype)(x)
    )


def test_deployed_graphs_have_the_stock_operation_alone():
    with first_order_only():
        graph = tf.function(pooling.ExactMaxPooling2D(3, 1, "same")).get_concrete_function(tf.ones((1, 4, 4, 1))).graph
    assert [op.type for op in graph.get_operations()] == ["Placeholder", "MaxPool", "Identity"]


def test_a_model_without_normalisation_gets_the_exact_pool_too():
    inner = keras.Sequential([keras.Input((6, 6, 2)), layers.MaxPooling2D(3, 1, "same", name="wrong")], name="inner")
    model = keras.Sequential([keras.Input((6, 6, 2)), inner, layers.MaxPooling2D(3, 2, "same", name="right")])
    converted = convert_normalization(model, 2)
    assert type(converted.get_layer("inner").get_layer("wrong")) is pooling.ExactMaxPooling2D
    assert type(converted.get_layer("right")) is layers.MaxPooling2D
    x = draw((2, 6, 6, 2), "float32")
    np.testing.assert_array_equal(converted(x), model(x))
    assert convert_normalization(converted, 2) is converted


def test_pools_of_one_pixel_are_known_by_their_inputs():
    layer = layers.MaxPooling2D(2, 2, "same")
    assert not pooling.pool_keeps_shape(layer)
    keras.Sequential([keras.Input((1, 1, 3)), layer])
    assert pooling.pool_keeps_shape(layer)
