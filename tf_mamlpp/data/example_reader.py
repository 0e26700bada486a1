"""What the cache of banks asks of each kind of examples: how files become rows of one array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tf_mamlpp.data.cached_bank import CachedBank
from tf_mamlpp.data.kinds import Kind
from tf_mamlpp.data.sources.listing import Pictures

Chunk = tuple[list[int], list[str], np.ndarray]
"""Rows and names of some examples, and the examples themselves, `[n, *shape]`."""


class ExampleReader(Protocol):
    """Reads all examples of a source into one array.

    Attributes:
        kind: of the examples.
        file: the array's name in the cache.
        shape, dtype: of an example in the array.

    Example: see `PictureReader` and `SoundReader`.
        >>> from tf_mamlpp.data.picture_reader import PictureReader
        >>> reader: ExampleReader = PictureReader((28, 28), channels=1)
        >>> reader.shape, reader.file, reader.kind.examples
        ((28, 28, 1), 'images.npy', 'pictures')
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def file(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def identity(self) -> list[Any]:
        """What the content of the array depends on beside the files, as JSON types."""
        ...

    def chunks(self, listed: Pictures, damaged: dict[int, str] | None = None) -> Iterator[Chunk]:
        """Reads examples some megabytes at a time, in any order.

        Args:
            listed: what to read.
            damaged: gets the row of each example that cannot be read, and what is wrong; None: it is an error.
        """
        ...

    def bank(
        self,
        stored: np.ndarray,
        offsets: np.ndarray,
        class_names: tuple[str, ...],
        name: str,
        folder: Path | None = None,
        by_fractions: bool = False,
        damaged: tuple[str, ...] = (),
    ) -> CachedBank:
        """The bank of an array that was read."""
        ...
