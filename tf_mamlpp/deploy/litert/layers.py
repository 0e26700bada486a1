"""Keras layers in forms that LiteRT can differentiate (`ops`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.deploy.litert import ops
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.convolution import MatmulConv2D, NarrowConv2D
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization, row_of
from tf_mamlpp.layers.pooling import DisjointMaxPooling2D
from tf_mamlpp.layers.step_context import current_pass
from tf_mamlpp.models import conv4

# The derivative of each, from x and y = f(x).
_DERIVATIVES: dict[Callable[..., tf.Tensor], Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    keras.activations.relu: lambda x, y: _slope(x, 0.0),
    keras.activations.leaky_relu: lambda x, y: _slope(x, 0.2),
    conv4.leaky_relu: lambda x, y: _slope(x, 0.01),
    keras.activations.tanh: lambda x, y: 1.0 - y * y,
    keras.activations.sigmoid: lambda x, y: y * (1.0 - y),
    keras.activations.elu: lambda x, y: tf.where(x > 0.0, 1.0, y + 1.0),
    keras.activations.silu: lambda x, y: y + tf.sigmoid(x) * (1.0 - y),
}


def _slope(x: tf.Tensor, below: float) -> tf.Tensor:
    return tf.where(x > 0.0, 1.0, below)


def _activated(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    if layer.activation is keras.activations.linear:
        return x
    return ops.elementwise(x, layer.activation, _DERIVATIVES[layer.activation])


def _windows(layer: Any, x: tf.Tensor, size: Sequence[int], dilation: Sequence[int] = (1, 1)) -> list[ops.Windows]:
    return [
        ops.Windows(axis, x.shape[axis], size[i], layer.strides[i], dilation[i], layer.padding)
        for i, axis in enumerate((1, 2))
    ]


def _convolution(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    held = ops.patches(inputs, _windows(layer, inputs, layer.kernel_size, layer.dilation_rate))
    kernel = tf.convert_to_tensor(layer.kernel)
    matrix = tf.reshape(kernel, [-1, kernel.shape[3]])
    return _activated(layer, ops.affine(held, matrix, layer.bias if layer.use_bias else None))


def _dense(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    return _activated(layer, ops.affine(inputs, tf.convert_to_tensor(layer.kernel), layer.bias))


def _max_pool(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    down, across = _windows(layer, inputs, layer.pool_size)
    return ops.maxima(ops.maxima(inputs, across), down)


def _average_pool(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    windows = _windows(layer, inputs, layer.pool_size)
    y = inputs
    for w in windows:
        inside = tf.reshape(tf.ones(w.length), [1, w.length, 1, 1] if w.axis == 1 else [1, 1, w.length, 1])
        y = ops.scaled(ops.sums(y, w), 1.0 / tf.add_n(w.parts(inside)))  # beyond the border counts for nothing
    return y


def _global_average(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    _, height, width, channels = inputs.shape
    each = tf.fill([1, height, width, 1], 1.0 / (height * width))
    pooled = tf.custom_gradient(lambda x: (tf.reduce_mean(x, [1, 2], keepdims=True), lambda g: g * each))(inputs)
    return pooled if layer.keepdims else ops.reshaped(pooled, [channels])


def _batch_norm(layer: Any, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
    now, trainable = current_pass.get(), layer.trainable
    if now is None:  # the copy is being built
        return PerStepBatchNormalization.call(layer, inputs, training)
    row = min(now.step, layer.inner_steps - 1)
    mean, variance = (row_of(t, row, layer.per_step_statistics) for t in (layer.moving_mean, layer.moving_variance))
    if trainable and (now.statistics == "batch" or now.momentum == 0):
        own_mean, own_variance = ops.moments(inputs)
        if now.momentum == 0:
            layer._update(layer.moving_mean, row, 0, mean, own_mean)
            layer._update(layer.moving_variance, row, 0, variance, own_variance)
        if now.statistics == "batch":
            mean, variance = own_mean, own_variance
    gamma, beta = (row_of(t, row, layer.per_step_weights) for t in (layer.gamma, layer.beta))
    gamma = tf.ones_like(mean) if gamma is None else gamma
    beta = tf.zeros_like(mean) if beta is None else beta
    return ops.normalised(inputs, mean, variance, gamma, beta, layer.epsilon)


def _leaky(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    below = float(layer.negative_slope)
    return ops.elementwise(inputs, lambda x: tf.nn.leaky_relu(x, below), lambda x, y: _slope(x, below))


def _concatenate(layer: Any, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    axis = layer.axis % len(inputs[0].shape)
    sizes = [x.shape[axis] for x in inputs]
    return tf.custom_gradient(lambda *x: (tf.concat(x, axis), lambda g: tuple(tf.split(g, sizes, axis))))(*inputs)


_FORMS: dict[type, Callable[..., tf.Tensor]] = {
    keras.layers.Activation: _activated,
    keras.layers.Add: lambda layer, inputs: tf.add_n(inputs),
    keras.layers.AveragePooling2D: _average_pool,
    keras.layers.Concatenate: _concatenate,
    keras.layers.Conv2D: _convolution,
    keras.layers.Dense: _dense,
    keras.layers.Flatten: lambda layer, inputs: ops.reshaped(inputs, [math.prod(inputs.shape[1:])]),
    keras.layers.GlobalAveragePooling2D: _global_average,
    keras.layers.LeakyReLU: _leaky,
    keras.layers.MaxPooling2D: _max_pool,
    keras.layers.ReLU: _leaky,
    keras.layers.Reshape: lambda layer, inputs: ops.reshaped(inputs, layer.compute_output_shape(inputs.shape)[1:]),
    keras.layers.ZeroPadding2D: lambda layer, inputs: ops.padded(inputs, layer.padding),
    DisjointMaxPooling2D: _max_pool,
    MatmulConv2D: _convolution,
    NarrowConv2D: _convolution,
    PerStepBatchNormalization: _batch_norm,
}


# They do nothing outside training.
_IDLE = (
    keras.layers.ActivityRegularization,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout2D,
)


def builtin_forms(model: keras.Model) -> keras.Model:
    """A copy of a model, weights too, of layers that LiteRT can differentiate.

    Args:
        model: Sequential or functional, nested as you like, with its normalisation layers converted
            (`convert_normalization`).  Layers that do nothing outside training, such as Dropout, stay as they are.

    Raises:
        UserError: a layer that has no form, or a model that cannot be copied layer by layer.
    """
    if not (isinstance(model, keras.Sequential) or hasattr(model, "operations")):
        raise UserError(
            f"model '{model.name}' is a subclass of keras.Model, whose layers cannot be replaced for LiteRT: build it "
            "as a Sequential or functional model, or export a SavedModel"
        )
    if any(None in x.shape[1:] for x in model.inputs):
        raise UserError(f"model '{model.name}' takes pictures of any size, which LiteRT cannot: give its Input a size")
    for part in model._flatten_layers():
        for operation in getattr(part, "operations", ()):
            if not isinstance(operation, keras.layers.Layer):
                raise UserError(
                    f"model '{part.name}' has an operation '{operation.name}' outside layers, which cannot be replaced "
                    "for LiteRT: use a layer, such as keras.layers.Add for +, or export a SavedModel"
                )

    def form(layer: keras.layers.Layer) -> keras.layers.Layer:
        cls = type(layer)
        reason = _unfit(layer)
        if reason:
            raise UserError(
                f"layer '{layer.name}' ({cls.__name__}) cannot learn with LiteRT's built-in operators: {reason}; "
                "replace it, or export a SavedModel"
            )
        if cls in _FORMS:
            cls = type(cls.__name__, (cls,), {"call": _FORMS[cls]})
        return cls.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=form, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _unfit(layer: keras.layers.Layer) -> str | None:
    """What a layer has that no form has; None where there is one."""
    if type(layer) not in (*_FORMS, *_IDLE):
        known = ", ".join(sorted(cls.__name__ for cls in (*_FORMS, *_IDLE)))
        return f"it is none of {known}"
    if layer.compute_dtype != "float32":
        return f"it computes in {layer.compute_dtype}, not in float32"
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation not in (keras.activations.linear, *_DERIVATIVES):
        known = ", ".join(f.__name__ for f in _DERIVATIVES)
        return f"its activation '{getattr(activation, '__name__', activation)}' is none of {known}"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its data_format is not channels_last"
    if getattr(layer, "groups", 1) != 1:
        return "its convolution is in groups"
    if isinstance(layer, PerStepBatchNormalization) and layer._spread:
        return "its axis is not the last one"
    if isinstance(layer, keras.layers.ReLU) and (layer.max_value is not None or layer.threshold):
        return "it has a max_value or a threshold"
    if isinstance(layer, keras.layers.Add):
        shapes = [{tuple(x.shape) for x in node.input_tensors} for node in layer._inbound_nodes]
        if any(len(s) > 1 for s in shapes):
            return "it adds tensors of different shapes"
    return None
