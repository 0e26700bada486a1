"""Normalisation with exact second derivatives.

`tf.nn.moments`, which the stock layers use, stops the gradient of the mean inside the variance: harmless
to first derivatives, wrong in second ones, which MAML needs.  Every layer here takes its moments with
`moments` below instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def moments(x: tf.Tensor, axes: Sequence[int], keepdims: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance over `axes`, exact to every order of derivative."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return (mean if keepdims else tf.squeeze(mean, axes)), variance


def scale_and_shift(
    mean: tf.Tensor, variance: tf.Tensor, gamma: Any, beta: Any, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """What makes (x - mean) / sqrt(variance + epsilon) * gamma + beta one multiplication and one addition."""
    scale = tf.math.rsqrt(variance + epsilon)
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale
    if beta is not None:
        shift += beta
    return scale, shift


def wide_dtype(dtype: tf.DType) -> tf.DType:
    """Half precision overflows in sums of squares; anything wider is kept."""
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactLayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` with exact second derivatives."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, wide_dtype(inputs.dtype))
        axes = [a % len(x.shape) for a in ([self.axis] if isinstance(self.axis, int) else self.axis)]
        shape = [x.shape[i] if i in axes else 1 for i in range(len(x.shape))]
        mean, variance = moments(x, axes, keepdims=True)
        if getattr(self, "rms_scaling", False):
            mean = tf.zeros_like(mean)
        gamma, beta = (None if w is None else tf.reshape(w, shape) for w in (self.gamma, self.beta))
        scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
        return tf.cast(x * scale + shift, self.compute_dtype)


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactGroupNormalization(keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` with exact second derivatives."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, wide_dtype(inputs.dtype))
        axis, shape = self.axis % len(x.shape), tf.shape(x)
        group = [self.groups, x.shape[axis] // self.groups]
        x = tf.reshape(x, tf.concat([shape[:axis], group, shape[axis + 1 :]], 0))
        mean, variance = moments(x, [i for i in range(1, len(x.shape)) if i != axis], keepdims=True)
        spread = [1] * axis + group + [1] * (len(x.shape) - axis - 2)
        gamma, beta = (None if w is None else tf.reshape(w, spread) for w in (self.gamma, self.beta))
        scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
        return tf.cast(tf.reshape(x * scale + shift, shape), self.compute_dtype)
