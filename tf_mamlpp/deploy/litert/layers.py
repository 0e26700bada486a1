"""Keras layers with gradients that LiteRT has operators for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.deploy.litert import ops
from tf_mamlpp.deploy.litert.windows import AxisWindows, maxima, patches, sums
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import copy_trainable
from tf_mamlpp.layers.convolution import MatmulConv2D, NarrowConv2D
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization, row_of
from tf_mamlpp.layers.pooling import DisjointMaxPooling2D, ExactMaxPooling2D
from tf_mamlpp.layers.step_context import current_pass
from tf_mamlpp.meta.heads import Head
from tf_mamlpp.meta.task import Tensors
from tf_mamlpp.models import conv4

# The derivative of each activation f, from x and y = f(x).
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


def _windows(layer: Any, x: tf.Tensor, size: Sequence[int], dilation: Sequence[int] = (1, 1)) -> list[AxisWindows]:
    return [
        AxisWindows(axis, x.shape[axis], size[i], layer.strides[i], dilation[i], layer.padding)
        for i, axis in enumerate((1, 2))
    ]


def _convolution(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    rows = patches(inputs, _windows(layer, inputs, layer.kernel_size, layer.dilation_rate))
    kernel = tf.convert_to_tensor(layer.kernel)
    matrix = tf.reshape(kernel, [-1, kernel.shape[3]])
    return _activated(layer, ops.affine(rows, matrix, layer.bias if layer.use_bias else None))


def _dense(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    return _activated(layer, ops.affine(inputs, tf.convert_to_tensor(layer.kernel), layer.bias))


def _max_pool(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    down, across = _windows(layer, inputs, layer.pool_size)
    return maxima(maxima(inputs, across), down)


def _average_pool(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    outputs = inputs
    for w in _windows(layer, inputs, layer.pool_size):
        ones = tf.reshape(tf.ones(w.length), [1, w.length, 1, 1] if w.axis == 1 else [1, 1, w.length, 1])
        counts = tf.add_n(w.parts(ones))  # elements of each window that are not beyond the border
        outputs = ops.scaled(sums(outputs, w), 1.0 / counts)
    return outputs


def _global_average(layer: Any, inputs: tf.Tensor) -> tf.Tensor:
    _, height, width, channels = inputs.shape
    each = tf.fill([1, height, width, 1], 1.0 / (height * width))
    pooled = tf.custom_gradient(lambda x: (tf.reduce_mean(x, [1, 2], keepdims=True), lambda g: g * each))(inputs)
    return pooled if layer.keepdims else ops.reshaped(pooled, [channels])


def _batch_norm(layer: Any, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
    current = current_pass.get()
    if current is None:  # the copy is being built
        return PerStepBatchNormalization.call(layer, inputs, training)
    row = min(current.step, layer.inner_steps - 1)
    mean, variance = (row_of(t, row, layer.per_step_statistics) for t in (layer.moving_mean, layer.moving_variance))
    if layer.trainable and (current.statistics == "batch" or current.momentum == 0):
        batch_mean, batch_variance = ops.moments(inputs)
        if current.momentum == 0:
            layer.update(layer.moving_mean, row, 0, mean, batch_mean)
            layer.update(layer.moving_variance, row, 0, variance, batch_variance)
        if current.statistics == "batch":
            mean, variance = batch_mean, batch_variance
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


# The `call` of each kind of layer, as LiteRT can differentiate it.
_CALLS: dict[type, Callable[..., tf.Tensor]] = {
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
    ExactMaxPooling2D: _max_pool,
    MatmulConv2D: _convolution,
    NarrowConv2D: _convolution,
    PerStepBatchNormalization: _batch_norm,
}


# Layers that do nothing outside training.
_IDLE = (
    keras.layers.ActivityRegularization,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout2D,
)


def differentiable_copy(model: keras.Model) -> keras.Model:
    """Copies a model, weights too, with layers that LiteRT can differentiate.

    Args:
        model: a Sequential or functional model, nested or not, with its normalisation layers converted
            (`convert_normalization`).

    Raises:
        UserError: a layer that LiteRT cannot differentiate, or a model that cannot be copied layer by layer.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.ReLU()])
        >>> pictures = tf.random.normal((5, 4, 4, 1))
        >>> bool(tf.reduce_max(tf.abs(differentiable_copy(model)(pictures) - model(pictures))) < 1e-5)
        True
    """
    _check_model(model)

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        cls = type(layer)
        problem = _problem(layer)
        if problem:
            raise UserError(
                f"layer '{layer.name}' ({cls.__name__}) cannot learn with LiteRT's built-in operators: {problem}; "
                "replace it, or export a SavedModel"
            )
        if cls in _CALLS:
            cls = type(cls.__name__, (cls,), {"call": _CALLS[cls], "stands_for": cls})
        return cls.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=replace, recursive=True)
    copy.set_weights(model.get_weights())
    copy_trainable(model, copy)
    return copy


class DifferentiableHead(Head):
    """A `Head` of a model that `differentiable_copy` made.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(5)])
        >>> head = DifferentiableHead(differentiable_copy(model), "shared", [2, 3])
        >>> head(tf.zeros((1, 2)), [tf.zeros((2, 3)), tf.constant([1.0, 2.0, 3.0])]).numpy()
        array([[1., 2., 3.]], dtype=float32)
    """

    def __call__(self, features: tf.Tensor, weights: Tensors) -> tf.Tensor:
        assert self.layer is not None
        return _activated(self.layer, ops.affine(features, weights[0], weights[1] if self.layer.use_bias else None))


def _check_model(model: keras.Model) -> None:
    """Refuses a model that cannot be copied layer by layer."""
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


def _problem(layer: keras.layers.Layer) -> str | None:
    """Why LiteRT cannot differentiate a layer; None if it can."""
    if type(layer) not in (*_CALLS, *_IDLE):
        known = ", ".join(sorted(cls.__name__ for cls in (*_CALLS, *_IDLE)))
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
    if isinstance(layer, PerStepBatchNormalization) and not layer.has_channels_last:
        return "its axis is not the last one"
    if isinstance(layer, keras.layers.ReLU) and (layer.max_value is not None or layer.threshold):
        return "it has a max_value or a threshold"
    if isinstance(layer, keras.layers.Add):
        shapes = [{tuple(x.shape) for x in node.input_tensors} for node in layer._inbound_nodes]
        if any(len(s) > 1 for s in shapes):
            return "it adds tensors of different shapes"
    return None
