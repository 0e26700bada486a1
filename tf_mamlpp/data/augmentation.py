"""Random crops, flips, colours and turns of training pictures.  Imports no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tf_mamlpp.checks import check_fields
from tf_mamlpp.errors import UserError

_GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue in a picture's brightness (ITU-R BT.601)


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for each picture each time that it is trained on; nothing by default.

    Args:
        crop_padding: the picture is moved by up to this many pixels each way; its mirrored edge fills the rest.
        flip: left and right change places in half of all pictures.
        brightness: b; values are multiplied by a number from 1 - b to 1 + b.
        contrast: the same for the distance of a picture's values from its mean brightness.
        saturation: the same for the distance of a pixel's colours from its own brightness.

    Raises:
        UserError: a value of another type or out of range.

    Example:
        >>> Augmentation(crop_padding=8, flip=True).active, Augmentation().active
        (True, False)
        >>> Augmentation(contrast=1.5)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: contrast is 1.5: it must be from 0 to 1
    """

    crop_padding: int = 0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, zero=("crop_padding", "brightness", "contrast", "saturation"))
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) > 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be from 0 to 1")

    @property
    def active(self) -> bool:
        """Whether anything changes."""
        return self != Augmentation()

    def check_pictures(self, shape: tuple[int, int], channels: int) -> None:
        """Refuses what such pictures cannot have.

        Args:
            shape: height and width.
            channels: 1 or 3.

        Raises:
            UserError: the padding leaves nothing of a picture, or grey ones have no saturation.
        """
        if self.crop_padding >= min(shape):
            raise UserError(f"crop_padding is {self.crop_padding}: it must be less than the {min(shape)} pixels a side")
        if self.saturation and channels == 1:
            raise UserError("saturation has no use with pictures of one channel")


def augment(images: np.ndarray, augmentation: Augmentation, bits: np.random.Philox) -> np.ndarray:
    """Draws another version of each picture.

    Args:
        images: uint8 `[n, H, W, C]`.
        augmentation: what may change.
        bits: random bits; the same ones give the same pictures.

    Returns:
        uint8 `[n, H, W, C]`.

    Example:
        >>> from tf_mamlpp.data.task_stream import task_bits
        >>> images = np.arange(6, dtype=np.uint8).reshape(1, 1, 6, 1)
        >>> bits = [task_bits(0, "train", i) for i in range(9)]
        >>> seen = [augment(images, Augmentation(flip=True), b).ravel().tolist() for b in bits]
        >>> [0, 1, 2, 3, 4, 5] in seen, [5, 4, 3, 2, 1, 0] in seen
        (True, True)
    """
    if not augmentation.active:
        return images
    count, height, width, channels = images.shape
    draws = _uniform(bits.random_raw(6 * count)).reshape(6, count)
    pixels = 2 * augmentation.crop_padding + 1
    rows, columns = (
        _mirrored(np.arange(size) + np.floor(draw * pixels).astype(int)[:, None] - augmentation.crop_padding, size)
        for size, draw in ((height, draws[0]), (width, draws[1]))
    )
    if augmentation.flip:
        columns = np.where(draws[2][:, None] < 0.5, columns[:, ::-1], columns)
    images = images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    strengths = augmentation.brightness, augmentation.contrast, augmentation.saturation
    if not any(strengths):
        return images
    factors = [1 + strength * (2 * draw - 1) for strength, draw in zip(strengths, draws[3:], strict=True)]
    matrices, offsets = _colours(images, *factors)
    values = images.reshape(count, -1, channels).astype(np.float32) @ matrices + offsets
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).reshape(images.shape)


def rotate(images: np.ndarray, quarter_turns: np.ndarray) -> np.ndarray:
    """Turns square pictures, in place.

    Args:
        images: `[n, ..., H, W, C]`.
        quarter_turns: `[n]`, from 0 to 3.

    Returns:
        `images`.

    Example:
        >>> rotate(np.array([[[[1], [2]], [[3], [4]]]]), np.array([1]))[0, ..., 0].tolist()
        [[2, 4], [1, 3]]
    """
    for turns in (1, 2, 3):
        chosen = quarter_turns == turns
        images[chosen] = np.rot90(images[chosen], turns, axes=(-3, -2))
    return images


def _uniform(raw: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1, without 1, from 64 random bits each."""
    return (raw >> np.uint64(11)) * 2.0**-53


def _mirrored(positions: np.ndarray, size: int) -> np.ndarray:
    """Positions beyond an edge as those that its mirror shows, the edge itself not twice."""
    positions = np.abs(positions)
    return np.where(positions < size, positions, 2 * (size - 1) - positions)


def _colours(
    images: np.ndarray, brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Brightness, then contrast, then saturation as one affine map of each picture's colours, without rounding between.

    Returns:
        The matrices `[n, C, C]`, which colours are multiplied by as rows, and the offsets `[n, 1, 1]`.
    """
    channels = images.shape[-1]
    grey = _GREY if channels == 3 else np.ones(1)
    mean = images.mean((1, 2)) @ grey * brightness
    kept = (brightness * contrast)[:, None, None]
    amount = saturation[:, None, None] if channels == 3 else np.ones((1, 1, 1))
    matrices = kept * (amount * np.eye(channels) + (1 - amount) * np.repeat(grey[:, None], channels, 1))
    return matrices.astype(np.float32), ((1 - contrast) * mean).astype(np.float32)[:, None, None]
