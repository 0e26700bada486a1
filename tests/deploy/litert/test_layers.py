"""Layers whose gradients are built-in operators: the same numbers as TensorFlow's own kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.deploy.litert.layers import differentiable_copy
from tf_mamlpp.deploy.litert.ops import cross_entropy
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers import conversion, per_step_batch_norm, step_context
from tf_mamlpp.models import conv4, resnet12

L = keras.layers


def chain(*stack, shape=(9, 10, 3)):
    return keras.Sequential([keras.Input(shape), *stack])


def branches(merge):
    inputs = keras.Input((9, 10, 3))
    return keras.Model(inputs, merge([L.Conv2D(4, 1)(inputs), L.Conv2D(4, 3, padding="same")(inputs)]))


def derivatives(model, x, seed=1):
    """Outputs and the gradients of input and weights, for a random gradient of the outputs."""
    weights = list(model.trainable_variables)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    upstream = tf.random.stateless_normal(y.shape, [seed, 0])
    return [y, *tape.gradient(y, [x, *(w.value for w in weights)], upstream)]


def assert_same(model, x, atol=2e-5):
    copy = differentiable_copy(model)
    assert [v.shape for v in copy.variables] == [v.shape for v in model.variables]
    for ours, theirs in zip(derivatives(copy, x), derivatives(model, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol * max(1, np.abs(theirs).max()))


@pytest.fixture
def pictures():
    return tf.random.stateless_normal((2, 9, 10, 3), [0, 0])


@pytest.fixture
def flat_pictures():
    """Small whole numbers: half the windows hold their largest value more than once, and many values are 0."""
    return tf.cast(tf.random.stateless_uniform((2, 9, 10, 3), [0, 0], -1, 2, tf.int32), tf.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "same"},
        {"kernel_size": (2, 5), "padding": "same", "use_bias": False},
        {"strides": 2, "padding": "same"},
        {"strides": (3, 2), "kernel_size": 5},
        {"strides": 2, "kernel_size": 1},
        {"dilation_rate": 2, "padding": "same", "activation": "relu"},
        {"dilation_rate": (1, 3)},
    ],
    ids=str,
)
def test_convolutions(settings, pictures):
    assert_same(chain(L.Conv2D(4, **{"kernel_size": 3, **settings})), pictures)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "strides"), [(2, 2), ((2, 3), None), (3, 2), (3, 1), (2, 3)])
def test_max_pools_give_ties_to_the_first(size, strides, padding, flat_pictures):
    assert_same(chain(L.MaxPooling2D(size, strides, padding)), flat_pictures)


@pytest.mark.parametrize(("size", "strides", "padding"), [(2, 2, "valid"), (3, 2, "same"), ((2, 3), 1, "same")])
def test_average_pools(size, strides, padding, pictures):
    assert_same(chain(L.AveragePooling2D(size, strides, padding)), pictures)


@pytest.mark.parametrize(
    "make",
    [
        lambda: chain(L.Activation(conv4.leaky_relu), L.LeakyReLU(0.3), L.ReLU(negative_slope=0.1)),
        lambda: chain(L.ReLU(), L.Activation("silu")),
        lambda: chain(L.Activation("tanh"), L.Dense(4, "sigmoid"), L.Activation("elu"), L.Dropout(0.5)),
        lambda: chain(L.ZeroPadding2D(((1, 0), (2, 3))), L.Reshape((9, -1)), L.Flatten(), L.Dense(3, use_bias=False)),
        lambda: chain(L.GlobalAveragePooling2D(keepdims=True), L.GlobalAveragePooling2D(), L.Dense(3)),
        lambda: chain(chain(L.Conv2D(2, 3)), L.Flatten()),
        lambda: branches(L.Add()),
        lambda: branches(L.Concatenate()),
    ],
    ids=["leaky", "relu, silu", "tanh, sigmoid, elu", "reshape", "average", "nested", "add", "concatenate"],
)
def test_other_layers(make, flat_pictures):
    assert_same(make(), flat_pictures)


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("settings", [{}, {"scale": False, "center": False}, {"per_step_weights": False}], ids=str)
def test_batch_norm(statistics, settings, pictures, scatter):
    model = scatter(chain(per_step_batch_norm.PerStepBatchNormalization(2, **settings)))
    with step_context.inner_step(1, statistics, 1.0):
        assert_same(model, 10 + 3 * pictures)


def test_batch_norm_writes_its_statistics(pictures, scatter):
    model = scatter(chain(per_step_batch_norm.PerStepBatchNormalization(2)))
    found = []
    for m in (model, differentiable_copy(model)):
        with step_context.inner_step(1, "batch", 0.0):
            found.append(m.stateless_call(m.trainable_variables, m.non_trainable_variables, pictures)[1])
    for ours, theirs in zip(*found[::-1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_frozen_batch_norm_uses_moving_statistics(pictures, scatter):
    model = scatter(chain(per_step_batch_norm.PerStepBatchNormalization(1, trainable=False)))
    with step_context.inner_step(0, "batch", 0.0):
        assert_same(model, pictures)


def test_cross_entropy():
    labels, logits = tf.constant([2, 0, 0, 1]), 5 * tf.random.stateless_normal((4, 3), [0, 0])
    found = []
    for loss in (cross_entropy, keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = 3 * loss(labels, logits)
        found.append((value, tape.gradient(value, logits)))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["strided conv4", "resnet12"])
def test_the_packages_networks_are_copied(name, scatter):
    if name == "resnet12":
        model = resnet12.resnet12((8, 9, 2), 3, widths=(3, 4))
    else:
        model = conv4.conv4((8, 9, 2), 3, filters=4, blocks=2, strided=True)
    model = scatter(conversion.convert_normalization(model, 2, True, True))
    x = tf.random.stateless_normal((3, 8, 9, 2), [0, 0])
    with step_context.inner_step(0, "batch", 1.0):
        assert_same(model, x)


class Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: L.DepthwiseConv2D(3, name="mine"),
            r"\(DepthwiseConv2D\) cannot learn .*: it is none of Activation, Act",
        ),
        (lambda: Own(name="mine"), r"\(Own\) .* it is none of"),
        (lambda: L.Conv2D(3, 3, groups=3, name="mine"), "in groups"),
        (lambda: L.Conv2D(3, 3, activation="gelu", name="mine"), "activation 'gelu' is none of relu"),
        (lambda: L.ReLU(6.0, name="mine"), "max_value"),
        (lambda: per_step_batch_norm.PerStepBatchNormalization(1, axis=1, name="mine"), "axis"),
        (lambda: L.Dense(3, dtype="float64", name="mine"), "float64"),
    ],
    ids=["unknown", "own", "groups", "activation", "relu6", "axis", "float64"],
)
def test_layers_that_cannot_be_differentiated_are_named(make, reason):
    with pytest.raises(UserError, match=f"layer 'mine' .*{reason}"):
        differentiable_copy(chain(make()))


def test_models_that_cannot_be_copied_are_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(UserError, match="subclass of keras.Model"):
        differentiable_copy(Subclassed())
    with pytest.raises(UserError, match="give its Input a size"):
        differentiable_copy(chain(L.Conv2D(2, 3), L.GlobalAveragePooling2D(), shape=(None, None, 1)))
    inputs = keras.Input((4, 4, 3))
    broad = keras.Model(inputs, L.Add(name="mine")([inputs, L.GlobalAveragePooling2D(keepdims=True)(inputs)]))
    with pytest.raises(UserError, match="'mine' .* different shapes"):
        differentiable_copy(broad)
    sum_of_two = keras.Model(inputs, inputs + L.ReLU()(inputs))
    with pytest.raises(UserError, match="operation 'add.*' outside layers"):
        differentiable_copy(keras.Sequential([keras.Input((4, 4, 3)), sum_of_two]))
