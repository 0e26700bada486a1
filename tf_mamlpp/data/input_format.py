"""What one example is to a model: the bridge from what data and clients hold to what the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.array_format import ArrayFormat
from tf_mamlpp.data.kinds import ARRAYS, PICTURES, SOUND, Kind
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.errors import UserError


class InputFormat(Protocol):
    """What one example is, and how it is prepared for the model: in training, and in the exported model alike.

    Attributes:
        kind: of the data.
        shape, dtype: of one example as the model takes it.

    Example: see `ArrayFormat`, `SoundFormat` and `PictureFormat`.
        >>> inputs = ArrayFormat((2,), "float32", mean=(1.0, 2.0), std=(1.0, 4.0))
        >>> inputs.prepare(tf.constant([[2.0, 4.0]])).numpy().tolist(), inputs.shape
        ([[1.0, 0.5]], (2,))
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    def signature(self) -> tf.TensorSpec:
        """Shape and dtype of the examples that an exported model takes, `[None, ...]`."""
        ...

    def prepare(self, examples: tf.Tensor) -> tf.Tensor:
        """From examples `[..., *]` as the data have them to `[..., *shape]`, in the graph."""
        ...

    def pictures(self, examples: np.ndarray) -> np.ndarray | None:
        """Examples `[n, ...]` as pictures to look at, uint8 `[n, H, W, C]`; None where they cannot be shown."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything about it as JSON types: what metadata.json and a run's inputs.json say."""
        ...


FORMATS: dict[str, Any] = {PICTURES.name: PictureFormat, SOUND.name: SoundFormat, ARRAYS.name: ArrayFormat}
"""The format of each kind of data that has one, by the kind's name."""


def read_format(described: Mapping[str, Any]) -> InputFormat:
    """The format that `describe` described.

    Args:
        described: with the format under the name of its kind.

    Raises:
        UserError: there is none, or it is damaged.

    Example:
        >>> inputs = ArrayFormat((2,), "float32", mean=(1.0, 2.0), std=(1.0, 4.0))
        >>> read_format({"arrays": inputs.describe()}) == inputs
        True
    """
    for kind, form in FORMATS.items():
        if kind in described:
            try:
                found: InputFormat = form.from_description(described[kind])
                return found
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"the entry '{kind}' is damaged: {error!r}") from error
    raise UserError(f"nothing says what an example is: no entry {' or '.join(FORMATS)}")
