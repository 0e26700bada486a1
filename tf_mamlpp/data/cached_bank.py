"""A bank whose examples lie in one array: in memory, or memory-mapped from the cache."""

from __future__ import annotations

import abc
import json
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.data.bank import Bank, digest

RESIDENT = 24 << 20
"""Bytes; memory keeps the pages of mapped arrays up to this size."""

DIGESTS, ORIGINS = "digests.npy", "pictures.json"
"""In the folder of a cached bank: a hash of each example, and where it came from."""


class CachedBank(Bank):
    """A bank of one array.  A subclass says what its examples are.

    Attributes:
        folder: where the bank lies in the cache; None for one that was made in memory.

    Example: see `ImageBank`.
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((5, 28, 28, 1), np.uint8), np.array([0, 2, 5]), ("ant", "bee"), "insects train")
        >>> bank.stored.shape, bank.shape, bank.origins([0])
        ((5, 28, 28, 1), (28, 28, 1), None)
    """

    folder: Path | None

    @property
    @abc.abstractmethod
    def stored(self) -> np.ndarray:
        """All examples, `[examples, *shape]`, class by class."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.stored.dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copies examples out of the bank.

        Memory does not grow with the examples seen: the pages of a large cached bank are released after each element
        of the first axis of `rows`.

        Args:
            rows: numbers of examples, an integer array of any shape.

        Returns:
            `[*rows.shape, *shape]`.
        """
        if self.stored.nbytes <= RESIDENT:
            return self.stored[rows]
        examples = np.empty((*rows.shape, *self.stored.shape[1:]), self.stored.dtype)
        for place, part in enumerate(rows):
            examples[place] = self.stored[part]
            release_pages(self.stored)
        return examples

    def digests(self) -> np.ndarray:
        if self.folder is None:
            return np.array([digest(example) for example in self.stored], np.uint64)
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
