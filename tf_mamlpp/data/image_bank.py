"""A bank of pictures: all pictures of one split as one uint8 array, class by class."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_RESIDENT = 24 << 20  # bytes; memory keeps the pages of banks up to this size


@dataclass(frozen=True)
class ImageBank:
    """The pictures of one split.

    Attributes:
        images: uint8 [pictures, H, W, C], class by class.
        offsets: int64 [classes + 1]; class c's pictures are rows offsets[c] to offsets[c + 1] - 1.
        class_names: one name a class.
        name: source and split, for example "omniglot train".
        folder: where the bank lies in the cache; None for one that was made in memory.
        by_fractions: whether `split_fractions` divided the classes. An error about too few classes then says so.
        damaged: what is wrong with each picture that was left out because it cannot be read.

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

    @property
    def source(self) -> str:
        """The source part of the name, for example "omniglot"."""
        return self.name.rpartition(" ")[0]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copies pictures out of the bank.

        Memory does not grow with the pictures seen: the pages of a large cached bank are released after each element
        of the first axis of `rows`.

        Args:
            rows: numbers of pictures, an integer array of any shape.

        Returns:
            uint8 [*rows.shape, H, W, C].
        """
        if self.images.nbytes <= _RESIDENT:
            return self.images[rows]
        images = np.empty((*rows.shape, *self.images.shape[1:]), np.uint8)
        for place, part in enumerate(rows):
            images[place] = self.images[part]
            release_pages(self.images)
        return images


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
