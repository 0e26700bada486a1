"""The self-check passes right models and names the layer of a wrong one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.gradient_check import _blame, check_meta_gradient, in_float64, second_derivative_errors
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.mlp import mlp

layers = keras.layers


class Trap(keras.layers.Layer):
    """Normalises pictures as `tf.nn.moments` does, whose second derivatives are wrong."""

    def call(self, x):
        mean = tf.reduce_mean(x, [1, 2], keepdims=True)
        variance = tf.reduce_mean((x - tf.stop_gradient(mean)) ** 2, [1, 2], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def trapped():
    stack = [
        keras.Input((8, 8, 1)),
        layers.Conv2D(2, 3, strides=2, activation="tanh", name="first"),
        Trap(name="trap"),
        layers.Conv2D(2, 3, activation="tanh", name="second"),
        layers.Flatten(),
        layers.Dense(3, name="dense"),
    ]
    return keras.Sequential(stack, name="mine")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["maml", "maml++", "anil"])
def test_conv4_passes(make_tasks, method):
    model = conv4((8, 8, 1), 3, filters=2, blocks=2)
    weights = model.get_weights()
    deviations = check_meta_gradient(
        model, make_tasks(dtype="float32"), way=3, inner_steps=2, inner_rate=0.3, **presets[method]
    )
    assert len(deviations) == 10 + (method == "maml++")
    assert max(deviations.values()) < 1e-5
    assert all(v.dtype == "float32" for v in model.variables)
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_mlp_passes(make_tasks):
    check_meta_gradient(mlp((4,), 3, (6,)), make_tasks(shape=(4,)), way=3, inner_steps=2)


def test_a_hidden_trap_is_found_and_named(make_tasks):
    said = _blame(in_float64(trapped()), make_tasks(), 1e-5)
    assert said == "Second derivatives are wrong in layer 'trap': replace it"
    with pytest.raises(UserError, match="model 'mine': .* in layer 'trap' .Trap. are stopped"):
        check_meta_gradient(trapped(), make_tasks(), way=3, inner_steps=2, inner_rate=0.5)


class Rounding(keras.layers.Layer):
    def call(self, x):
        return tf.cast(tf.cast(x, "float32"), x.dtype)


def test_a_layer_of_single_precision_is_not_accused(make_tasks):
    stack = [keras.Input((6,)), layers.Dense(4, "tanh"), Rounding(name="rounding"), layers.Dense(3)]
    with pytest.raises(UserError, match="of model 'mine' cannot be checked: layer 'rounding' computes in float32"):
        check_meta_gradient(
            keras.Sequential(stack, name="mine"), make_tasks(shape=(6,)), way=3, inner_steps=1, tolerance=1e-9
        )


def test_errors_of_every_layer(make_tasks):
    errors = second_derivative_errors(in_float64(trapped()), make_tasks()["support_images"][0])
    assert errors.pop("trap") > 1e-3
    assert {"first", "second", "dense"} <= set(errors)
    assert max(errors.values()) < 1e-6


def test_layers_are_looked_at_in_a_graph():
    """In a graph a kernel may write over its inputs: eagerly this pool is right."""
    pool = layers.MaxPooling2D(3, 1, "same", name="pool", dtype="float64")
    model = keras.Sequential([keras.Input((5, 5, 2), dtype="float64"), pool, layers.Flatten(dtype="float64")])
    assert second_derivative_errors(model, np.random.default_rng(0).normal(size=(2, 5, 5, 2)))["pool"] > 0.9


def test_first_order_has_nothing_to_check(make_tasks):
    with pytest.raises(UserError, match="first-order meta-gradients are not the loss's gradient"):
        check_meta_gradient(mlp((4,), 3, (6,)), make_tasks(shape=(4,)), way=3, **presets["fomaml"])


def test_float64_copies():
    model = mlp((4,), 3, (6,))
    twin = in_float64(model)
    assert {v.dtype for v in twin.variables} == {"float64"}
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert in_float64(twin) is twin

    class Mine(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    mine = Mine()
    mine(tf.zeros((1, 4)))
    with pytest.raises(UserError, match="'mine' is subclassed: build it under"):
        in_float64(mine)


def lora(x):
    layer = layers.Dense(4, "tanh")
    y = layer(x)
    layer.enable_lora(2)
    return layers.Flatten()(y)


WRAPPED = {
    "bidirectional": lambda x: layers.Bidirectional(layers.SimpleRNN(2))(x),
    "time distributed": lambda x: layers.Flatten()(layers.TimeDistributed(layers.Dense(3, "tanh"))(x)),
    "cells": lambda x: layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(2)])(x),
    "lora": lora,
    "normalised first": lambda x: layers.Flatten()(layers.LayerNormalization(epsilon=0.1)(x)),
}


@pytest.mark.slow_cases("bidirectional")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "cells" else n for n in WRAPPED])
def test_layers_that_hold_others_pass(name, make_tasks):
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.Dense(3)(WRAPPED[name](inputs)))
    check_meta_gradient(model, make_tasks(shape=(3, 4)), way=3, inner_steps=1, inner_rate=0.2)


@pytest.mark.slow
def test_a_layer_that_holds_others_is_at_fault_where_none_of_them_is(make_tasks):
    normed = layers.SpectralNormalization(layers.Dense(3, name="inside"), name="normed")
    model = in_float64(keras.Sequential([keras.Input((4,)), normed, layers.Dense(3, name="head")]))
    tasks = make_tasks(shape=(4,))
    errors = second_derivative_errors(model, tasks["support_images"][0])
    assert errors["normed"] > 1e-3 and max(errors["inside"], errors["head"]) < 1e-6
    assert "wrong in layer 'normed': replace it" in _blame(model, tasks, 1e-5)
    with pytest.raises(UserError, match=r"layer 'normed' \(SpectralNormalization\) are wrong"):
        check_meta_gradient(model, tasks, way=3, inner_steps=1)
