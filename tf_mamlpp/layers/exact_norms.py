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
    """Mean and biased variance over `axes`, exact to every order of derivative.

    Args:
        x: any shape.
        axes: to take them over.
        keepdims: whether these axes stay, of size 1.

    Example:
        >>> mean, variance = moments(tf.constant([[1.0, 2.0], [3.0, 6.0]]), [0])
        >>> mean.numpy(), variance.numpy()
        (array([2., 4.], dtype=float32), array([1., 4.], dtype=float32))
    """
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return (mean if keepdims else tf.squeeze(mean, axes)), variance


def masked_moments(x: tf.Tensor, mask: tf.Tensor, axes: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """`moments` of what a mask leaves, as Keras's batch norm takes them.

    Formula:
        n = Σ mask + 1e-7; mean = Σ mask x / n, variance = Σ mask (x - mean)² / n

    Args:
        x: `[..., C]`.
        mask: what counts, of the shape of `x` without its last axis.
        axes: all but that of the channels.

    Example:
        >>> mean, variance = masked_moments(tf.constant([[1.0], [3.0], [9.0]]), tf.constant([True, True, False]), [0])
        >>> mean.numpy().round(3), variance.numpy().round(3)
        (array([2.], dtype=float32), array([1.], dtype=float32))
    """
    counts = tf.broadcast_to(tf.cast(mask, tf.bool)[..., tf.newaxis], tf.shape(x))
    number = tf.reduce_sum(tf.cast(counts, x.dtype), axes, keepdims=True) + keras.config.epsilon()
    mean = tf.reduce_sum(tf.where(counts, x, 0), axes, keepdims=True) / number
    differences = tf.where(counts, x - mean, 0)
    variance = tf.reduce_sum(tf.square(differences), axes, keepdims=True) / number
    return tf.squeeze(mean, axes), tf.squeeze(variance, axes)


def moments_in_dtype(x: tf.Tensor, axes: int | Sequence[int], keepdims: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """`moments` in the dtype of what they are of; in half precision as far as it reaches.

    Example:
        >>> mean, variance = moments_in_dtype(tf.constant([1.0, 3.0], tf.float16), 0)
        >>> variance.dtype, float(variance)
        (tf.float16, 1.0)
    """
    axes = [axes] if isinstance(axes, int) else list(axes)
    mean, variance = moments(tf.cast(x, wide_dtype(x.dtype)), axes, keepdims)
    return tf.saturate_cast(mean, x.dtype), tf.saturate_cast(variance, x.dtype)


def scale_and_shift(
    mean: tf.Tensor, variance: tf.Tensor, gamma: Any, beta: Any, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalisation as one multiplication and one addition: x * scale + shift.

    Formula:
        scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale

    Args:
        mean, variance, gamma, beta: of shapes that broadcast; None for no gamma or beta.
        epsilon: keeps a variance of 0 apart from it.

    Example:
        >>> scale, shift = scale_and_shift(tf.constant(2.0), tf.constant(4.0), None, 1.0, epsilon=0.0)
        >>> float(scale), float(shift)
        (0.5, 0.0)
    """
    scale = tf.math.rsqrt(variance + epsilon)
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale
    if beta is not None:
        shift += beta
    return scale, shift


def wide_dtype(dtype: tf.DType) -> tf.DType:
    """The dtype that moments are taken in: half precision would overflow in sums of squares, anything wider is kept.

    Example:
        >>> wide_dtype(tf.float16), wide_dtype(tf.float64)
        (tf.float32, tf.float64)
    """
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


def layer_normalise(
    inputs: tf.Tensor, gamma: Any, beta: Any, axis: int | Sequence[int], epsilon: float, rms_scaling: bool = False
) -> tf.Tensor:
    """Layer normalisation, in the dtype of the inputs.

    Args:
        inputs: any shape.
        gamma, beta: with one value for each place along `axis`, or None.
        axis: one or several.
        epsilon: keeps a variance of 0 apart from it.
        rms_scaling: whether the mean is left in.

    Example:
        >>> layer_normalise(tf.constant([[1.0, 3.0]]), None, None, -1, epsilon=0.0).numpy()
        array([[-1.,  1.]], dtype=float32)
    """
    x = tf.cast(inputs, wide_dtype(inputs.dtype))
    axes = [a % len(x.shape) for a in ([axis] if isinstance(axis, int) else axis)]
    shape = [x.shape[i] if i in axes else 1 for i in range(len(x.shape))]
    mean, variance = moments(x, axes, keepdims=True)
    if rms_scaling:
        mean = tf.zeros_like(mean)
    gamma, beta = (None if w is None else tf.reshape(tf.cast(w, x.dtype), shape) for w in (gamma, beta))
    scale, shift = scale_and_shift(mean, variance, gamma, beta, epsilon)
    return tf.cast(x * scale + shift, inputs.dtype)


def _in_float64(inputs: tf.Tensor, layer: keras.layers.Layer) -> tf.Tensor:
    """What a float64 layer is given: Keras leaves the inputs of its norms as they are, and pictures may be float32."""
    return tf.cast(inputs, tf.float64) if layer.compute_dtype == "float64" else inputs


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactLayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` with exact second derivatives.

    Args: see there.

    Example:
        >>> ExactLayerNormalization()(tf.constant([[1.0, 3.0]])).numpy().round(2)
        array([[-1.,  1.]], dtype=float32)
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rms = getattr(self, "rms_scaling", False)
        inputs = _in_float64(inputs, self)
        outputs = layer_normalise(inputs, self.gamma, self.beta, self.axis, self.epsilon, rms)
        return tf.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactGroupNormalization(keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` with exact second derivatives.

    Args: see there.

    Example:
        >>> ExactGroupNormalization(groups=2)(tf.ones((1, 4, 4, 6))).shape
        TensorShape([1, 4, 4, 6])
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        inputs = _in_float64(inputs, self)
        x = tf.cast(inputs, wide_dtype(inputs.dtype))
        axis, shape = self.axis % len(x.shape), tf.shape(x)
        group = [self.groups, x.shape[axis] // self.groups]
        x = tf.reshape(x, tf.concat([shape[:axis], group, shape[axis + 1 :]], 0))
        mean, variance = moments(x, [i for i in range(1, len(x.shape)) if i != axis], keepdims=True)
        spread = [1] * axis + group + [1] * (len(x.shape) - axis - 2)
        gamma, beta = (None if w is None else tf.reshape(tf.cast(w, x.dtype), spread) for w in (self.gamma, self.beta))
        scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
        return tf.cast(tf.reshape(x * scale + shift, shape), self.compute_dtype)
