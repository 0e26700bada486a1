"""Operations between layers that are exchanged: the same numbers, in a copy of the model."""

import keras
import numpy as np
import pytest

from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.exact_operations import is_inexact_operation, operations_of

ops = keras.ops


def moments(x):
    mean, variance = ops.moments(x, [1, 2], keepdims=True)
    return (x - mean) * ops.rsqrt(variance + 1e-3)


KINDS = {
    "moments": moments,
    "moments of one axis": lambda x: x * ops.moments(x, -1, keepdims=True)[1],
    "layer norm": lambda x: ops.layer_normalization(x, np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0]), axis=-1),
    "layer norm alone": lambda x: ops.layer_normalization(x, axis=(1, 2), epsilon=0.1),
    "resize": lambda x: ops.image.resize(x, (9, 4), interpolation="bicubic"),
    "resize in a model inside": lambda x: inner(lambda y: ops.image.resize(y, (9, 4)), x)(x),
}


def inner(function, x):
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, keras.layers.Conv2D(2, 3)(function(inputs)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_numbers_are_those_of_keras(kind, dtype):
    if not hasattr(ops, "layer_normalization") and "layer norm" in kind:
        pytest.skip("this Keras has no such operation")
    images = keras.Input((6, 5, 3), dtype=dtype)
    x = keras.layers.Conv2D(3, 3, padding="same", dtype=dtype)(images)
    try:
        model = keras.Model(images, KINDS[kind](x))
    except TypeError:
        if kind != "moments of one axis":
            raise
        pytest.skip("this Keras takes a list of axes alone")
    exact = convert_normalization(model, 1)
    assert exact is not model and exact.count_params() == model.count_params()
    assert sum(map(is_inexact_operation, operations_of(model))) == 1
    pictures = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(dtype)
    np.testing.assert_allclose(exact(pictures), model(pictures), atol=1e-5 if dtype == "float32" else 2e-2)


def test_what_keeps_the_aspect_is_left_alone():
    images = keras.Input((6, 5, 3))
    model = keras.Model(images, ops.image.resize(images, (4, 4), crop_to_aspect_ratio=True))
    assert convert_normalization(model, 1) is model
