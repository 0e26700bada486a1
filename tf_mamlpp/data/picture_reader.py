"""How pictures are read into the cache of banks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tf_mamlpp.data.bulk_decoding import decoded_chunks
from tf_mamlpp.data.example_reader import Chunk
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.kinds import PICTURES, Kind
from tf_mamlpp.data.sources.listing import Pictures


@dataclass(frozen=True)
class PictureReader:
    """Decodes pictures and brings them to one size.

    Attributes:
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        resize: "stretch" or "crop", see `tf_mamlpp.data.resize`.

    Example:
        >>> grey = np.full((6, 6), 10, np.uint8)
        >>> listed = Pictures(("a",), (1,), lambda: zip([0], ["a.png"], [grey]))
        >>> [(rows, pixels.shape) for rows, _, pixels in PictureReader((2, 2), channels=3).chunks(listed)]
        [([0], (1, 2, 2, 3))]
    """

    kind: ClassVar[Kind] = PICTURES
    file: ClassVar[str] = "images.npy"
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)

    image_size: tuple[int, int]
    channels: int
    resize: str = "stretch"

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.image_size, self.channels)

    def identity(self) -> list[Any]:
        return [list(self.image_size), self.channels, self.resize]

    def chunks(self, listed: Pictures, damaged: dict[int, str] | None = None) -> Iterator[Chunk]:
        return decoded_chunks(listed, self.image_size, self.channels, self.resize, damaged)

    def bank(self, *stored: Any, **about: Any) -> ImageBank:
        return ImageBank(*stored, **about)
