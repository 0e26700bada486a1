"""The pictures that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.images import normalise, resize
from tf_mamlpp.data.kinds import PICTURES, Kind


@dataclass(frozen=True)
class PictureFormat:
    """How pictures were prepared in training.  A deployed model prepares its pictures in the same way.

    Attributes:
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        mean, std: of `data.images.normalise`, one value a channel, on the scale 0..1.
        resize_policy: of `data.images.resize`, `stretch` or `crop`.

    Example:
        >>> pictures = PictureFormat((28, 28), channels=1, mean=(0.5,), std=(0.25,))
        >>> pictures.resize(tf.zeros((5, 105, 60, 1))).shape
        TensorShape([5, 28, 28, 1])
        >>> float(tf.reduce_max(pictures.prepare(tf.fill((5, 28, 28, 1), 255.0))))
        2.0
    """

    kind: ClassVar[Kind] = PICTURES
    dtype: ClassVar[str] = "float32"

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_policy: str = "stretch"

    @property
    def shape(self) -> tuple[int, ...]:
        """`(height, width, channels)`."""
        return (*self.image_size, self.channels)

    def signature(self) -> tf.TensorSpec:
        """An exported model takes pictures of any size."""
        return tf.TensorSpec([None, None, None, self.channels], tf.float32)

    def resize(self, images: tf.Tensor) -> tf.Tensor:
        """Pictures `[..., H, W, C]` in the trained size, float32 in whole grey values."""
        return resize(images, self.image_size, self.resize_policy)

    def prepare(self, images: tf.Tensor) -> tf.Tensor:
        """Grey values 0..255 on the scale that the model was trained on."""
        return normalise(images, self.mean, self.std)

    def pictures(self, images: np.ndarray) -> np.ndarray:
        """Pictures are shown as they are."""
        return images

    def describe(self) -> dict[str, Any]:
        """The entry `pictures` of metadata.json."""
        return {
            "range": [0, 255],
            "channels": self.channels,
            "trained_size": list(self.image_size),
            "resize": self.resize_policy,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> PictureFormat:
        """The format that `describe` described."""
        height, width = map(int, described["trained_size"])
        mean, std = (tuple(map(float, described[name])) for name in ("mean", "std"))
        return cls((height, width), int(described["channels"]), mean, std, str(described["resize"]))
