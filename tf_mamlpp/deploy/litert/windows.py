"""Windows of convolutions and pools, with gradients that LiteRT has operators for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_mamlpp.layers.windows import place_windows

Gradient = Callable[..., Any]


class AxisWindows:
    """Windows along the height (axis 1) or the width (axis 2) of `[N, H, W, C]` tensors.

    Args:
        axis: 1 or 2.
        length: of that axis.
        size, stride, dilation, padding: of the windows; see `place_windows`.

    Example:
        >>> windows = AxisWindows(1, 4, size=2, stride=2, dilation=1, padding="valid")
        >>> column = tf.reshape([1.0, 2.0, 3.0, 4.0], [1, 4, 1, 1])
        >>> [part.numpy().ravel().tolist() for part in windows.parts(column)]
        [[1.0, 3.0], [2.0, 4.0]]
        >>> windows.merged(windows.parts(column)).numpy().ravel().tolist()
        [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(self, axis: int, length: int, size: int, stride: int, dilation: int, padding: str):
        windows = place_windows(length, size, stride, dilation, padding)
        self.count, self.offsets = windows.count, windows.offsets
        self.before, _ = windows.padding
        self.axis, self.length, self.stride = axis, length, stride
        # In whole strides, so that the k-th of every `stride` positions are found by a reshape.
        self.steps = self.count + self.offsets[-1] // stride

    def parts(self, x: tf.Tensor, fill: float = 0.0) -> list[tf.Tensor]:
        """The first elements of all windows, the second elements of all windows, ...; `fill` beyond the border."""
        x = self._resized(x, -self.before, self.steps * self.stride, fill)
        phases = self._phases(x)
        return [self._resized(phases[o % self.stride], o // self.stride, self.count, fill) for o in self.offsets]

    def merged(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """The adjoint of `parts`: adds the elements of the windows up at the positions that they came from."""
        phases: list[tf.Tensor | None] = [None] * self.stride
        for offset, part in zip(self.offsets, parts, strict=True):
            part = self._resized(part, -(offset // self.stride), self.steps)
            earlier = phases[offset % self.stride]
            phases[offset % self.stride] = part if earlier is None else earlier + part
        filled = [0.0 * part if phase is None else phase for phase in phases]
        return self._resized(self._interleaved(filled), self.before, self.length)

    def _resized(self, x: tf.Tensor, start: int, length: int, fill: float = 0.0) -> tf.Tensor:
        """Positions `start` to `start + length` of the axis; those that `x` does not have are `fill`."""
        old_length = x.shape[self.axis]
        before, after = max(-start, 0), max(start + length - old_length, 0)
        if start > 0 or start + length < old_length:
            kept = slice(max(start, 0), min(start + length, old_length))
            x = x[:, kept] if self.axis == 1 else x[:, :, kept]
        if before or after:
            x = tf.pad(x, [[before, after] if i == self.axis else [0, 0] for i in range(4)], constant_values=fill)
        return x

    def _phases(self, x: tf.Tensor) -> list[tf.Tensor]:
        """The first position of every stride, the second of every stride, ..."""
        if self.stride == 1:
            return [x]
        _, height, width, channels = x.shape
        if self.axis == 1:  # the rows of a stride beside each other
            x = tf.reshape(x, [-1, self.steps, self.stride * width, channels])
            return tf.split(x, self.stride, 2)
        return tf.split(tf.reshape(x, [-1, height, self.steps, self.stride * channels]), self.stride, 3)

    def _interleaved(self, phases: Sequence[tf.Tensor]) -> tf.Tensor:
        """The inverse of `_phases`."""
        if self.stride == 1:
            return phases[0]
        shape = phases[0].shape.as_list()
        shape[self.axis] *= self.stride
        return tf.reshape(tf.concat(phases, self.axis + 1), [-1, *shape[1:]])


def patches(x: tf.Tensor, windows: Sequence[AxisWindows]) -> tf.Tensor:
    """The elements of each window of `[N, H, W, C]` as one row: `[N, H', W', size * size * C]`.

    Args:
        x: the pictures.
        windows: along the height, and along the width.

    Example:
        >>> windows = [AxisWindows(axis, 4, size=2, stride=2, dilation=1, padding="valid") for axis in (1, 2)]
        >>> pictures = tf.reshape(tf.range(16.0), [1, 4, 4, 1])
        >>> patches(pictures, windows)[0, 0].numpy().tolist()
        [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    down, across = windows

    @tf.custom_gradient
    def unfold(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(g: tf.Tensor) -> tf.Tensor:
            rows = down.merged(tf.split(g, len(down.offsets), -1))
            return across.merged(tf.split(rows, len(across.offsets), -1))

        rows = tf.concat(across.parts(x), -1)
        return tf.concat(down.parts(rows), -1), gradient

    return unfold(x)


def maxima(x: tf.Tensor, windows: AxisWindows) -> tf.Tensor:
    """The largest element of each window.

    Of equal ones the first gets the gradient, as in TensorFlow's kernel.

    Example:
        >>> windows = AxisWindows(1, 4, size=2, stride=2, dilation=1, padding="valid")
        >>> maxima(tf.reshape([1.0, 5.0, 3.0, 2.0], [1, 4, 1, 1]), windows).numpy().ravel().tolist()
        [5.0, 3.0]
    """

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


def sums(x: tf.Tensor, windows: AxisWindows) -> tf.Tensor:
    """The sum of each window.

    Example:
        >>> windows = AxisWindows(1, 4, size=2, stride=2, dilation=1, padding="valid")
        >>> sums(tf.reshape([1.0, 5.0, 3.0, 2.0], [1, 4, 1, 1]), windows).numpy().ravel().tolist()
        [6.0, 5.0]
    """

    @tf.custom_gradient
    def total(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return tf.add_n(windows.parts(x)), lambda g: windows.merged([g] * len(windows.offsets))

    return total(x)
