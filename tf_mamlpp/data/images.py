"""Pictures to tensors: the only place where pictures are decoded, resized and normalised.

Training, evaluation and the exported SavedModel all go through these functions, so a picture is seen the same
way everywhere.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from tf_mamlpp.data.damaged_pictures import MEND
from tf_mamlpp.data.icons import icon_sizes
from tf_mamlpp.data.picture_files import checked_stat
from tf_mamlpp.errors import UserError, reason

RESIZE_POLICIES = ("stretch", "crop")

MOST_PIXELS = 1 << 26
"""The most pixels of one picture, 67 million. A small file that declares more is made to exhaust memory."""

_MODES = {1: "L", 3: "RGB"}  # Pillow's name for so many channels

_BITS_PER_SAMPLE = 258  # a TIFF tag


def resize(images: tf.Tensor | np.ndarray, image_size: tuple[int, int], policy: str = "stretch") -> tf.Tensor:
    """Brings pictures to a size, antialiased, and rounds them to whole grey values.

    Rounding makes the result storable as uint8 without loss, so that cached pictures and pictures that an
    exported model resizes itself agree exactly.

    Args:
        images: uint8 or float tensor of shape [..., H, W, C], values 0..255; H and W may be unknown.
        image_size: height and width wanted, in pixels.
        policy: what is done to a picture of other proportions. "stretch" keeps all of it and distorts it, which is
            right where the subject fills the picture. "crop" does not distort: it first cuts the largest part of the
            wanted proportions from the middle. Neither pads.

    Returns:
        float32 tensor of shape [..., image_size[0], image_size[1], C], whole numbers 0..255.

    Raises:
        UserError: no such policy.

    Example:
        >>> picture = np.array([[[0], [0], [90], [90]]], np.uint8)  # one row of four grey pixels
        >>> resize(picture, (1, 2)).numpy().ravel().tolist()
        [13.0, 77.0]
        >>> resize(picture, (1, 1), "crop").numpy().ravel().tolist()  # pixel 2 of 4, the middle
        [0.0]
    """
    if policy not in RESIZE_POLICIES:
        raise UserError(f"resize policy {policy!r} is none of {', '.join(RESIZE_POLICIES)}")
    images = tf.cast(images, tf.float32)
    if policy == "crop":
        images = _crop(images, *image_size)
    leading, channels = tf.shape(images)[:-3], images.shape[-1]
    static_shape = [*images.shape[:-3], *image_size, channels]
    if tuple(images.shape[-3:-1]) != tuple(image_size):
        flat = tf.reshape(images, tf.concat([[-1], tf.shape(images)[-3:]], axis=0))
        flat = tf.image.resize(flat, image_size, method="bilinear", antialias=True)
        images = tf.reshape(flat, tf.concat([leading, [*image_size], tf.shape(flat)[-1:]], axis=0))
    return tf.ensure_shape(tf.clip_by_value(tf.round(images), 0.0, 255.0), static_shape)


def _crop(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The largest part in the middle whose sides are as height to width, to the nearest pixel."""
    whole = tf.shape(images)[-3:-1]
    wanted = (2 * whole[::-1] * [height, width] + [width, height]) // [2 * width, 2 * height]  # rounded
    kept = tf.minimum(whole, tf.maximum(wanted, 1))
    top, left = tf.unstack((whole - kept) // 2)
    return images[..., top : top + kept[0], left : left + kept[1], :]


def normalise(
    images: tf.Tensor | np.ndarray, mean: Sequence[float] | np.ndarray, std: Sequence[float] | np.ndarray
) -> tf.Tensor:
    """Scales pictures to (x / 255 - mean) / std.

    Args:
        images: uint8 or float tensor of shape [..., W, C], values 0..255; W may be unknown.
        mean: one value a channel (or one for all), on the scale 0..1.
        std: likewise. Mean 1 and std -1 turn dark ink on white paper into ink 1 on paper 0.

    Returns:
        float32 tensor of the shape of `images`.

    Example:
        >>> pictures = np.array([[[0], [255]]], np.uint8)  # one black and one white pixel
        >>> normalise(pictures, mean=[0.5], std=[0.5]).numpy().ravel().tolist()
        [-1.0, 1.0]
        >>> [float(x) for x in normalise(pictures, mean=[1.0], std=[-1.0]).numpy().ravel()]  # inverted
        [1.0, -0.0]
    """
    images = tf.convert_to_tensor(images)
    shape = tf.shape(images)
    # Row by row: repeating three numbers for every pixel takes TensorFlow three times as long as a row of them.
    means, stds = (
        tf.tile(tf.constant(np.broadcast_to(value, images.shape[-1:]), tf.float32), shape[-2:-1])
        for value in (mean, std)
    )
    rows = tf.reshape(images, tf.concat([shape[:-2], [-1]], axis=0))
    scaled = (tf.cast(rows, tf.float32) / 255.0 - means) / stds
    return tf.ensure_shape(tf.reshape(scaled, shape), images.shape)


def decode_file(source: bytes | str | os.PathLike[str], channels: int, name: str | None = None) -> np.ndarray:
    """Decodes a picture file of any usual kind (PNG, JPEG, GIF, WebP, ...; any depth, palette, transparency).

    Transparent parts are laid over white, 16 bits are scaled to 8, and the camera's orientation mark is
    obeyed.

    Args:
        source: the file's content, or its path.
        channels: 1 for grey, 3 for RGB.
        name: what to call the picture in an error; the path by default.

    Returns:
        uint8 array of shape [H, W, channels].

    Raises:
        UserError: the picture cannot be read, or has over `MOST_PIXELS`; names it.

    Example:
        >>> Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
        >>> decode_file(tmp_path / "red.png", channels=3).shape
        (2, 3, 3)
        >>> decode_file(tmp_path / "red.png", channels=1)[0, 0]
        array([76], dtype=uint8)
    """
    name = name or ("a picture" if isinstance(source, bytes) else os.fspath(source))
    try:
        if not isinstance(source, bytes):
            checked_stat(source)
        file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
        with file, _open(file) as image:
            if 32 in getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ()):
                raise ValueError("32-bit pixels have no agreed range")
            _scale_transparent_grey(image)
            return _to_array(ImageOps.exif_transpose(image), channels)
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise UserError(f"{name}: cannot be read as a picture ({_reason(error)}){MEND}") from error


def _reason(error: Exception) -> str:
    """What is wrong with a picture, without Python's names of open files."""
    if isinstance(error, UnidentifiedImageError):
        return "it is empty, or of no known kind"
    return re.sub(r" *<_io\.[^>]*>", "", reason(error))


def _open(file: BinaryIO) -> Image.Image:
    """Opens a picture that is safe to decode."""
    for width, height in icon_sizes(file):
        _check_size(width, height)
    image = Image.open(file)
    _check_size(image.width, image.height)
    if image.format == "EPS":
        raise ValueError("PostScript is a program, which is not run")
    if image.format in ("ICNS", "BLP"):  # they hold pictures of other kinds, whose own sizes Pillow does not tell
        raise ValueError(f"{image.format} is no usual kind of picture")
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many")


def _scale_transparent_grey(image: Image.Image) -> None:
    """Brings the transparent grey of a PNG of 2 or 4 bits to 8 bits, as Pillow does the pixels, but not this grey."""
    grey, tile = image.info.get("transparency"), getattr(image, "tile", None)
    scale = {"L;2": 85, "L;4": 17}.get(str(tile[0].args)) if tile and image.format == "PNG" else None
    if scale and isinstance(grey, int):
        image.info["transparency"] = grey * scale


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Makes a decoded picture grey or RGB; transparent parts are laid over white.

    Args:
        image: uint8 array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 array [H, W, channels].

    Example:
        >>> to_channels(np.array([[7]], np.uint8), channels=3)
        array([[[7, 7, 7]]], dtype=uint8)
    """
    squeezed = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if squeezed.ndim == 2 and channels == 1:
        return squeezed[..., None]
    return _to_array(Image.fromarray(np.ascontiguousarray(squeezed)), channels)


def _to_array(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, whatever the byte order
        image = Image.fromarray(np.clip(np.round(np.asarray(image) / 257.0), 0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    array = np.asarray(image.convert(_MODES[channels]))
    return array[..., None] if array.ndim == 2 else array
