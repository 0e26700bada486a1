"""Where the windows of a convolution or a pool lie along one axis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Windows:
    """The windows along one axis.

    Attributes:
        count: how many windows there are.
        padding: elements to add before and after the axis.
        offsets: distance of each element of a window from the window's first.

    Example:
        >>> Windows(count=3, padding=(1, 1), offsets=range(3)).count
        3
    """

    count: int
    padding: tuple[int, int]
    offsets: range


def place_windows(length: int, size: int, stride: int, dilation: int, padding: str) -> Windows:
    """Places windows on an axis as TensorFlow does.

    Args:
        length: of the axis.
        size: elements of a window.
        stride: distance between the first elements of neighbouring windows.
        dilation: distance between neighbouring elements of a window.
        padding: `same` or `valid`.

    Example:
        >>> place_windows(7, size=3, stride=2, dilation=1, padding="same")
        Windows(count=4, padding=(1, 1), offsets=range(0, 3))
    """
    span = (size - 1) * dilation + 1
    offsets = range(0, span, dilation)
    if padding != "same":
        return Windows((length - span) // stride + 1, (0, 0), offsets)
    count = -(-length // stride)
    added = max((count - 1) * stride + span - length, 0)
    return Windows(count, (added // 2, added - added // 2), offsets)
