"""Operators whose gradients are built-in ones of LiteRT: matrix products, sums, maxima, slices and reshapes.

TensorFlow's own gradients of convolutions, pools and even of broadcast products have no LiteRT counterpart, and on a
device an adapting model has to run them.  Every function here spells its gradient out, for any batch size, and without
tensors of computed shapes, which LiteRT's fast kernels refuse.  Numbers are TensorFlow's but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Gradient = Callable[..., Any]


class Windows:
    """Windows along the height (axis 1) or the width (axis 2) of `[N, H, W, C]` tensors.

    Args:
        axis: 1 or 2.
        length: of that axis.
        size, stride, dilation: of a window.
        padding: `same` or `valid`, as TensorFlow means them.
    """

    def __init__(self, axis: int, length: int, size: int, stride: int, dilation: int, padding: str):
        reach = (size - 1) * dilation + 1
        same = padding == "same"
        self.count = -(-length // stride) if same else (length - reach) // stride + 1
        self.before = max((self.count - 1) * stride + reach - length, 0) // 2 if same else 0
        self.axis, self.length, self.stride = axis, length, stride
        self.offsets = [k * dilation for k in range(size)]
        # In whole strides, so that the k-th of every `stride` positions are found by a reshape.
        self.steps = self.count + (reach - 1) // stride

    def parts(self, x: tf.Tensor, fill: float = 0.0) -> list[tf.Tensor]:
        """The first element of every window, the second of every window, ...; beyond the border is `fill`."""
        x = self._resized(x, -self.before, self.steps * self.stride, fill)
        phases = self._phases(x)
        return [self._resized(phases[o % self.stride], o // self.stride, self.count, fill) for o in self.offsets]

    def merged(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """The adjoint of `parts`: what the windows hold, added up where it came from."""
        phases: list[tf.Tensor | None] = [None] * self.stride
        for offset, part in zip(self.offsets, parts, strict=True):
            part = self._resized(part, -(offset // self.stride), self.steps)
            earlier = phases[offset % self.stride]
            phases[offset % self.stride] = part if earlier is None else earlier + part
        filled = [0.0 * part if phase is None else phase for phase in phases]
        return self._resized(self._interleaved(filled), self.before, self.length)

    def _resized(self, x: tf.Tensor, start: int, length: int, fill: float = 0.0) -> tf.Tensor:
        """Positions `start` to `start + length` of the axis; those that `x` does not have are `fill`."""
        have = x.shape[self.axis]
        before, after = max(-start, 0), max(start + length - have, 0)
        if start > 0 or start + length < have:
            kept = slice(max(start, 0), min(start + length, have))
            x = x[:, kept] if self.axis == 1 else x[:, :, kept]
        if before or after:
            x = tf.pad(x, [[before, after] if i == self.axis else [0, 0] for i in range(4)], constant_values=fill)
        return x

    def _phases(self, x: tf.Tensor) -> list[tf.Tensor]:
        if self.stride == 1:
            return [x]
        _, height, width, channels = x.shape
        if self.axis == 1:  # the rows of a stride beside each other
            x = tf.reshape(x, [-1, self.steps, self.stride * width, channels])
            return tf.split(x, self.stride, 2)
        return tf.split(tf.reshape(x, [-1, height, self.steps, self.stride * channels]), self.stride, 3)

    def _interleaved(self, phases: Sequence[tf.Tensor]) -> tf.Tensor:
        if self.stride == 1:
            return phases[0]
        shape = phases[0].shape.as_list()
        shape[self.axis] *= self.stride
        return tf.reshape(tf.concat(phases, self.axis + 1), [-1, *shape[1:]])


def affine(x: tf.Tensor, matrix: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """x matrix + bias, of `[..., A]` and `[A, B]`."""
    inputs, outputs = matrix.shape

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
def added(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """x + bias, of `[..., C]` and `[C]`."""
    return x + bias, lambda g: (g, channel_sum(g))


def channel_sum(x: tf.Tensor) -> tf.Tensor:
    """`[C]`, over all axes but the last; axis by axis, because LiteRT adds up in sequence, which loses digits."""
    for axis in reversed(range(len(x.shape) - 1)):
        x = tf.reduce_sum(x, axis)
    return x


def patches(x: tf.Tensor, windows: Sequence[Windows]) -> tf.Tensor:
    """What each window of `[N, H, W, C]` holds, beside each other: `[N, H', W', size * size * C]`."""
    down, across = windows

    @tf.custom_gradient
    def unfold(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(g: tf.Tensor) -> tf.Tensor:
            rows = down.merged(tf.split(g, len(down.offsets), -1))
            return across.merged(tf.split(rows, len(across.offsets), -1))

        rows = tf.concat(across.parts(x), -1)
        return tf.concat(down.parts(rows), -1), gradient

    return unfold(x)


def maxima(x: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The largest in each window; of equal ones the first gets the gradient, as in TensorFlow's kernel."""

    @tf.custom_gradient
    def largest(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        first, *others = windows.parts(x, x.dtype.min)
        so_far = [first]
        for part in others:
            so_far.append(tf.maximum(so_far[-1], part))

        def gradient(g: tf.Tensor) -> tf.Tensor:
            shares = []
            for part, earlier in zip(others[::-1], so_far[-2::-1], strict=True):
                shares.append(g * tf.cast(part > earlier, g.dtype))
                g -= shares[-1]
            return windows.merged([g, *shares[::-1]])

        return so_far[-1], gradient

    return largest(x)


def sums(x: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The sum of each window."""

    @tf.custom_gradient
    def total(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return tf.add_n(windows.parts(x)), lambda g: windows.merged([g] * len(windows.offsets))

    return total(x)


def scaled(x: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """x times a constant that broadcasts to it."""
    return tf.custom_gradient(lambda x: (x * factor, lambda g: g * factor))(x)


def padded(x: tf.Tensor, paddings: Sequence[Sequence[int]]) -> tf.Tensor:
    """`[N, H, W, C]` with zeros around height and width."""
    (top, _), (left, _) = paddings
    _, height, width, _ = x.shape
    inside = lambda g: g[:, top : top + height, left : left + width]  # noqa: E731
    return tf.custom_gradient(lambda x: (tf.pad(x, [[0, 0], *paddings, [0, 0]]), inside))(x)


def reshaped(x: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """`[N, *shape]`."""
    before = [-1, *x.shape[1:]]
    return tf.custom_gradient(lambda x: (tf.reshape(x, [-1, *shape]), lambda g: tf.reshape(g, before)))(x)


def moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance of each channel (the last axis)."""

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
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, of `[..., C]` and four `[C]`."""

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
    """Mean cross-entropy of `[S]` labels and `[S, way]` logits.  A label that is no class counts as no picture's."""

    @tf.custom_gradient
    def loss(logits: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        wanted = tf.one_hot(labels, logits.shape[-1])
        each = -tf.reduce_sum(wanted * tf.nn.log_softmax(logits), -1)
        count = tf.cast(tf.shape(logits)[0], logits.dtype)
        return tf.reduce_mean(each), lambda g: (tf.nn.softmax(logits) - wanted) * (g / count)

    return loss(logits)


def elementwise(
    x: tf.Tensor, function: Callable[..., tf.Tensor], derivative: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """function(x), whose derivative is `derivative(x, function(x))`."""

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        y = function(x)
        return y, lambda g: g * derivative(x, y)

    return apply(x)
