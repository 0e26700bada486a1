"""Layers of the same numbers and weights as stock ones, for less work; `convert_normalization` puts them in.

The outputs of a network's first convolution are its largest tensors, and linear in patches of only a few numbers
(9 or 27).  Their batch mean and variance follow from the mean and covariance of the patches, which do not depend on
weights, so that normalising is one convolution with a scaled kernel.  What it is worth: BUILD_NOTES.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.second_order import max_pool


@dataclass(frozen=True)
class Convolved:
    """How a `NarrowConv2D` made its outputs: what batch norm needs in place of them.

    Attributes:
        inputs: `[B, H, W, C]`.
        kernel: `[h, w, C, filters]`.
        bias: `[filters]` or None.
        settings: `strides`, `padding` and `dilation_rate`, of `keras.ops.conv`.
    """

    inputs: tf.Tensor
    kernel: tf.Tensor
    bias: tf.Tensor | None
    settings: dict[str, Any]

    def moments(self, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and biased variance of each channel of the outputs, `[filters]`, computed in `dtype`.

        Formula:
            y = Wᵀp + b for a patch p:  mean(y) = Wᵀ mean(p) + b,  var(y) = diag(Wᵀ cov(p) W)
        """
        kernel = tf.cast(self.kernel, dtype)
        size = kernel.shape[:3].num_elements()
        each = tf.reshape(tf.eye(size, dtype=dtype), [*kernel.shape[:3], size])
        patches = tf.reshape(keras.ops.conv(tf.cast(self.inputs, dtype), each, **self.settings), [-1, size])
        mean = tf.reduce_mean(patches, 0)
        centred = patches - mean
        covariance = tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(patches)[0], dtype)
        weights = tf.reshape(kernel, [size, -1])
        variance = tf.reduce_sum(weights * (covariance @ weights), 0)
        bias = 0 if self.bias is None else tf.cast(self.bias, dtype)
        return tf.linalg.matvec(weights, mean, transpose_a=True) + bias, variance

    def affine(self, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        """The outputs * scale + shift (both `[filters]`), in the dtype of these; as one convolution."""
        kernel = tf.cast(tf.cast(self.kernel, scale.dtype) * scale, self.inputs.dtype)
        if self.bias is not None:
            shift += tf.cast(self.bias, scale.dtype) * scale
        return tf.cast(keras.ops.conv(self.inputs, kernel, **self.settings), scale.dtype) + shift


@keras.saving.register_keras_serializable("tf_mamlpp")
class NarrowConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose outputs say how they were made.

    A `PerStepBatchNormalization` right after it takes the short way, and the outputs themselves, if nothing else
    uses them, are pruned from the graph.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = super().call(inputs)
        settings = {"strides": self.strides, "padding": self.padding, "dilation_rate": self.dilation_rate}
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        outputs.convolved = Convolved(inputs, tf.convert_to_tensor(self.kernel), bias, settings)
        return outputs


def convolved(tensor: tf.Tensor) -> Convolved | None:
    """How `tensor` was made, if a `NarrowConv2D` made it and nothing has touched it since."""
    return getattr(tensor, "convolved", None)


@keras.saving.register_keras_serializable("tf_mamlpp")
class DisjointMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` of windows that do not overlap, with a cheaper second derivative."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return max_pool(inputs, self.pool_size)


def substitute(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """A layer, without the weights, to take the place of a stock one; None where there is none."""
    cls: Any = {keras.layers.Conv2D: NarrowConv2D, keras.layers.MaxPooling2D: DisjointMaxPooling2D}.get(type(layer))
    return cls.from_config(layer.get_config()) if cls and _fits(layer) else None


def _fits(layer: Any) -> bool:
    if layer.data_format != "channels_last":
        return False
    if isinstance(layer, keras.layers.MaxPooling2D):
        return layer.padding == "valid" and tuple(layer.strides) == tuple(layer.pool_size)
    few = layer.kernel.shape[:3].num_elements() <= layer.filters  # else the patches' covariance costs more
    return few and layer.groups == 1 and layer.activation is keras.activations.linear
