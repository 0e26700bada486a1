"""What the pictures of a source look like unless the user says otherwise.  Imports no TensorFlow."""

from __future__ import annotations

import re

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean of each colour channel, on the scale 0..1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation of each colour channel, on the scale 0..1."""


def is_omniglot(source: str) -> bool:
    """Whether a source is Omniglot, from its own archives or through TensorFlow Datasets.

    Example:
        >>> is_omniglot("omniglot"), is_omniglot("tfds:omniglot:3.0.0"), is_omniglot("tfds:omniglot[:10%]")
        (True, True, True)
        >>> is_omniglot("glyphs")
        False
    """
    return re.split(r"[:/\[]", source.removeprefix("tfds:"))[0] == "omniglot"


def _is_dark_on_white(source: str) -> bool:
    return source == "glyphs" or is_omniglot(source)


def pixel_format(source: str) -> tuple[tuple[int, int], int]:
    """A source's usual (height, width) and number of channels.

    Args:
        source: name of the source, see `load_banks`.

    Returns:
        28x28 and 1 for drawn characters, 84x84 and 3 for all others.

    Example:
        >>> pixel_format("glyphs")
        ((28, 28), 1)
        >>> pixel_format("mini_imagenet")
        ((84, 84), 3)
    """
    return ((28, 28), 1) if _is_dark_on_white(source) else ((84, 84), 3)


def pixel_statistics(source: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation that `normalise` takes for a source.

    Drawn characters, which are dark ink on white paper: mean 1 and deviation -1. This only inverts them, because
    (x - 1) / -1 = 1 - x: ink becomes 1 and paper 0, as in the published code. Colour pictures: ImageNet's. Other grey
    pictures: 0.5 and 0.5, which gives values of -1..1.

    Args:
        source: name of the source, see `load_banks`.
        channels: 1 for grey, 3 for RGB.

    Returns:
        The means and the deviations, on the scale 0..1, one a channel.

    Example:
        >>> pixel_statistics("omniglot", 1)
        ((1.0,), (-1.0,))
        >>> pixel_statistics("image_folder", 3)
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        >>> pixel_statistics("image_folder", 1)
        ((0.5,), (0.5,))
    """
    if _is_dark_on_white(source):
        return (1.0,) * channels, (-1.0,) * channels
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,), (0.5,))
