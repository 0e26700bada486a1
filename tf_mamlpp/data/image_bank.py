"""A bank of pictures: all pictures of one split as one uint8 array, class by class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_mamlpp.data.cached_bank import CachedBank
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.data.pixel_defaults import pixel_statistics


@dataclass(frozen=True)
class ImageBank(CachedBank):
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
    def stored(self) -> np.ndarray:
        return self.images
