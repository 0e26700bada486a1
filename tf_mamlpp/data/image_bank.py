"""A bank of pictures: all pictures of one split as one uint8 array, class by class."""

from __future__ import annotations

import dataclasses
import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_mamlpp.data.bank import Bank, digest
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.data.pixel_defaults import pixel_statistics

RESIDENT = 24 << 20
"""Bytes; memory keeps the pages of mapped arrays up to this size."""

DIGESTS, ORIGINS = "digests.npy", "pictures.json"
"""In the folder of a cached bank: a hash of each picture, and where it came from."""


@dataclass(frozen=True)
class ImageBank(Bank):
    """The pictures of one split.

    Attributes:
        images: uint8 [pictures, H, W, C], class by class.
        offsets: int64 [classes + 1]; class c's pictures are rows offsets[c] to offsets[c + 1] - 1.
        class_names: one name a class.
        name: source and split, for example "omniglot train".
        folder: where the bank lies in the cache; None for one that was made in memory.
        by_fractions: whether `split_fractions` divided the classes. An error about too few classes then says so.
        damaged: what is wrong with each picture that was left out because it cannot be read.
        pictures: how they are prepared; None for the source's usual mean and deviation, see `pixel_statistics`.

    Example:
        >>> images = np.zeros((5, 28, 28, 1), np.uint8)  # two pictures of "ant", three of "bee"
        >>> bank = ImageBank(images, np.array([0, 2, 5]), ("ant", "bee"), name="insects train")
        >>> bank.source
        'insects'
        >>> bank.take(np.array([[0, 1], [2, 4]])).shape  # two pictures of each class
        (2, 2, 28, 28, 1)
    """

    images: np.ndarray
    offsets: np.ndarray
    class_names: tuple[str, ...]
    name: str
    folder: Path | None = None
    by_fractions: bool = False
    damaged: tuple[str, ...] = ()
    pictures: PictureFormat | None = None

    @property
    def inputs(self) -> PictureFormat:
        height, width, channels = self.shape
        usual = PictureFormat((height, width), channels, *pixel_statistics(self.source, channels))
        return self.pictures or usual

    def with_inputs(self, inputs: InputFormat) -> ImageBank:
        assert isinstance(inputs, PictureFormat)
        return dataclasses.replace(self, pictures=inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.images.dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copies pictures out of the bank.

        Memory does not grow with the pictures seen: the pages of a large cached bank are released after each element
        of the first axis of `rows`.

        Args:
            rows: numbers of pictures, an integer array of any shape.

        Returns:
            uint8 [*rows.shape, H, W, C].
        """
        if self.images.nbytes <= RESIDENT:
            return self.images[rows]
        images = np.empty((*rows.shape, *self.images.shape[1:]), np.uint8)
        for place, part in enumerate(rows):
            images[place] = self.images[part]
            release_pages(self.images)
        return images

    def digests(self) -> np.ndarray:
        if self.folder is None:
            return np.array([digest(picture) for picture in self.images], np.uint64)
        return np.load(self.folder / DIGESTS, allow_pickle=False)

    def origins(self, rows: Sequence[int]) -> list[str] | None:
        if self.folder is None:
            return None
        origins = json.loads((self.folder / ORIGINS).read_text()) if len(rows) else ()
        return [origins[row] for row in rows]


def release_pages(images: np.ndarray) -> None:
    """Takes the pages of a memory-mapped array out of this process's memory; does nothing to any other array.

    The system's file cache keeps the pages, so reading them again is quick. What was written is not lost.

    Example:
        >>> images = np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(4,))
        >>> images[:] = 7
        >>> release_pages(images)
        >>> images.tolist()
        [7, 7, 7, 7]
    """
    owner: object = images
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
