"""Operations whose gradients LiteRT has operators for: matrix products, sums, maxima, slices and reshapes.

TensorFlow's own gradients of convolutions, pools and even of broadcast products have no LiteRT counterpart, but a model
that adapts on a device has to compute them.  Every function here therefore spells its gradient out, for any batch size,
and without tensors of computed shapes, which LiteRT's fast kernels refuse.  Results are TensorFlow's but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Gradient = Callable[..., Any]


def affine(x: tf.Tensor, matrix: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """x matrix + bias.

    Args:
        x: `[..., A]`.
        matrix: `[A, B]`.
        bias: `[B]` or None.

    Example:
        >>> affine(tf.constant([[1.0, 2.0]]), tf.constant([[1.0], [10.0]]), tf.constant([0.5])).numpy().tolist()
        [[21.5]]
    """
    inputs, outputs = matrix.shape
    if outputs is None:
        y = _product_of_any_width(x, matrix)
        return y if bias is None else added(y, bias)

    # Of three axes: LiteRT's products of two may become FULLY_CONNECTED, which is slow unless its weights are fixed.
    @tf.custom_gradient
    def product(x: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        rows, held = tf.reshape(x, [1, -1, inputs]), tf.reshape(matrix, [1, inputs, outputs])

        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            g = tf.reshape(g, [1, -1, outputs])
            back = tf.reshape(tf.matmul(g, held, transpose_b=True), [-1, *x.shape[1:]])
            return back, tf.reshape(tf.matmul(rows, g, transpose_a=True), [inputs, outputs])

        return tf.reshape(rows @ held, [-1, *x.shape[1:-1], outputs]), gradient

    y = product(x, matrix)
    return y if bias is None else added(y, tf.convert_to_tensor(bias))


@tf.custom_gradient
def _product_of_any_width(x: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """x matrix, of `[B, A]` and `[A, ?]`: an axis is added and taken off, since no shape is known to reshape to."""
    rows, held = tf.expand_dims(x, 0), tf.expand_dims(matrix, 0)

    def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        g = tf.expand_dims(g, 0)
        back = tf.squeeze(tf.matmul(g, held, transpose_b=True), 0)
        return back, tf.squeeze(tf.matmul(rows, g, transpose_a=True), 0)

    return tf.squeeze(rows @ held, 0), gradient


@tf.custom_gradient
def added(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """x + bias, of `[..., C]` and `[C]`.

    Example:
        >>> added(tf.zeros((1, 2)), tf.constant([1.0, 2.0])).numpy().tolist()
        [[1.0, 2.0]]
    """
    return x + bias, lambda g: (g, channel_sum(g))


def channel_sum(x: tf.Tensor) -> tf.Tensor:
    """The sum over all axes but the last, `[C]`.

    It goes axis by axis, because LiteRT adds numbers up one after the other, and long sums lose digits.

    Example:
        >>> channel_sum(tf.ones((2, 3, 4, 5))).numpy().tolist()
        [24.0, 24.0, 24.0, 24.0, 24.0]
    """
    for axis in reversed(range(len(x.shape) - 1)):
        x = tf.reduce_sum(x, axis)
    return x


def scaled(x: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """x times a constant that broadcasts to it.

    Example:
        >>> scaled(tf.constant([1.0, 2.0]), 3.0).numpy().tolist()
        [3.0, 6.0]
    """
    return tf.custom_gradient(lambda x: (x * factor, lambda g: g * factor))(x)


def padded(x: tf.Tensor, paddings: Sequence[Sequence[int]]) -> tf.Tensor:
    """Pictures with zeros around height and width.

    Args:
        x: `[N, H, W, C]`.
        paddings: zeros before and after the height, and before and after the width.

    Example:
        >>> padded(tf.ones((1, 2, 2, 1)), [[1, 0], [0, 1]])[0, :, :, 0].numpy().tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    """
    (top, _), (left, _) = paddings
    _, height, width, _ = x.shape

    @tf.custom_gradient
    def pad(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return tf.pad(x, [[0, 0], *paddings, [0, 0]]), lambda g: g[:, top : top + height, left : left + width]

    return pad(x)


def reshaped(x: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """x as `[N, *shape]`.

    Example:
        >>> reshaped(tf.ones((5, 2, 3)), [6]).shape
        TensorShape([5, 6])
    """
    before = [-1, *x.shape[1:]]
    return tf.custom_gradient(lambda x: (tf.reshape(x, [-1, *shape]), lambda g: tf.reshape(g, before)))(x)


def moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance of each channel (the last axis).

    Example:
        >>> mean, variance = moments(tf.constant([[1.0], [3.0]]))
        >>> mean.numpy().tolist(), variance.numpy().tolist()
        ([2.0], [1.0])
    """

    @tf.custom_gradient
    def both(x: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Gradient]:
        count = tf.cast(tf.shape(x)[0] * math.prod(x.shape[1:-1]), x.dtype)
        mean = channel_sum(x) / count
        variance = channel_sum(tf.math.squared_difference(x, mean)) / count
        return (mean, variance), lambda gm, gv: (x - mean) * (2.0 * gv / count) + gm / count

    return both(x)


def normalised(
    x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """Normalised, scaled and shifted channels.

    Formula:
        (x - mean) / sqrt(variance + epsilon) * gamma + beta

    Args:
        x: `[..., C]`.
        mean, variance, gamma, beta: `[C]`.
        epsilon: keeps the root away from 0.

    Example:
        >>> two, three, four = tf.constant([2.0]), tf.constant([3.0]), tf.constant([4.0])
        >>> normalised(tf.constant([[4.0]]), mean=two, variance=four, gamma=three, beta=two, epsilon=0.0).numpy()
        array([[5.]], dtype=float32)
    """

    @tf.custom_gradient
    def apply(
        x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tf.Tensor, Gradient]:
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse

        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, ...]:
            by_shift = channel_sum(g)
            by_scale = channel_sum(g * (x - mean))
            by_variance = -0.5 * by_scale * scale * inverse * inverse
            return g * scale, -by_shift * scale, by_variance, by_scale * inverse, by_shift

        return x * scale + (beta - mean * scale), gradient

    return apply(x, mean, variance, gamma, beta)


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy.

    Args:
        labels: `[S]` int32; a label outside 0..way-1 has loss 0.
        logits: `[S, way]`.

    Example:
        >>> float(cross_entropy(tf.constant([0, 1]), tf.zeros((2, 2))))  # log 2
        0.693...
    """

    @tf.custom_gradient
    def loss(logits: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        wanted = tf.one_hot(labels, tf.shape(logits)[-1] if logits.shape[-1] is None else logits.shape[-1])
        each = -tf.reduce_sum(wanted * tf.nn.log_softmax(logits), -1)
        count = tf.cast(tf.shape(logits)[0], logits.dtype)
        return tf.reduce_mean(each), lambda g: (tf.nn.softmax(logits) - wanted) * (g / count)

    return loss(logits)


def elementwise(
    x: tf.Tensor, function: Callable[..., tf.Tensor], derivative: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """function(x), element by element.

    Args:
        x: any tensor.
        function: of x.
        derivative: of x and function(x).

    Example:
        >>> elementwise(tf.constant([3.0]), lambda x: x * x, lambda x, y: 2 * x).numpy().tolist()
        [9.0]
    """

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        y = function(x)
        return y, lambda g: g * derivative(x, y)

    return apply(x)
