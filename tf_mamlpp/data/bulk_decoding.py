"""Decoding all pictures of a source: those of one shape are resized together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.damaged_pictures import note_damage
from tf_mamlpp.data.example_reader import Chunk
from tf_mamlpp.data.images import decode_file, to_channels
from tf_mamlpp.data.images import resize as resize_pictures
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError

_CHUNK = 8 << 20  # bytes of decoded pictures that wait to be resized


def decoded_chunks(
    pictures: Pictures,
    image_size: tuple[int, int],
    channels: int,
    resize: str = "stretch",
    damaged: dict[int, str] | None = None,
) -> Iterator[Chunk]:
    """Decodes pictures and brings them to one size, some megabytes at a time.

    Args:
        pictures: what to decode.
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        resize: "stretch" or "crop", see `tf_mamlpp.data.resize`.
        damaged: gets the row of each picture that cannot be read, and what is wrong with it; None: it is an error.

    Yields:
        Row numbers and names of some pictures, and their pixels, uint8 [pictures, H, W, C]; in any order.

    Raises:
        UserError: a picture is corrupt and there is no `damaged`, or the system cannot read it for now; names it.

    Example:
        >>> greys = [np.full((6, 6), grey, np.uint8) for grey in (10, 20)]
        >>> pictures = Pictures(("a", "b"), (1, 1), lambda: zip((0, 1), ("a.png", "b.png"), greys))
        >>> for rows, names, pixels in decoded_chunks(pictures, (2, 2), channels=1):
        ...     print(rows, names, pixels.shape)
        [0, 1] ['a.png', 'b.png'] (2, 2, 2, 1)
    """
    sized = _resizer(image_size, channels, resize)
    for rows, names, images in _stacks(pictures, channels, damaged):
        yield rows, names, sized(images)


def _resizer(image_size: tuple[int, int], channels: int, policy: str) -> Callable[[np.ndarray], np.ndarray]:
    """Resizes uint8 pictures [n, H, W, C] into uint8 pictures of one size."""

    # A graph takes a third of the eager time where pictures of many sizes come one by one.
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.uint8)])
    def sized(images: tf.Tensor) -> tf.Tensor:
        with tf.device("/cpu:0"):
            return tf.cast(resize_pictures(images, image_size, policy), tf.uint8)

    return lambda images: sized(images).numpy()


def _stacks(pictures: Pictures, channels: int, damaged: dict[int, str] | None = None) -> Iterator[Chunk]:
    """Decoded pictures of one shape, stacked, with their row numbers and names."""
    waiting: dict[tuple[int, ...], list[tuple[int, str, np.ndarray]]] = {}
    size = 0
    for row, name, content in pictures.read():
        try:
            image = _decoded(content, channels, name)
        except UserError as error:
            note_damage(damaged, row, error)
            continue
        if waiting and size + image.nbytes > _CHUNK:
            yield from map(_stacked, waiting.values())
            waiting, size = {}, 0
        waiting.setdefault(image.shape, []).append((row, name, image))
        size += image.nbytes
    yield from map(_stacked, waiting.values())


def _decoded(content: bytes | np.ndarray | UserError, channels: int, name: str) -> np.ndarray:
    if isinstance(content, bytes):
        return decode_file(content, channels, name)
    if isinstance(content, np.ndarray):
        return to_channels(content, channels)
    raise content


def _stacked(group: list[tuple[int, str, np.ndarray]]) -> Chunk:
    rows, names, images = zip(*group, strict=True)
    return list(rows), list(names), np.stack(images)
