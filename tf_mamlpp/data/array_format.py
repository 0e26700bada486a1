"""Arrays of numbers as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_mamlpp.checks import check_choice
from tf_mamlpp.data.kinds import ARRAYS, Kind
from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class ArrayFormat:
    """Arrays of one shape, and the scale on which the model takes them.

    Formula:
        x becomes (x - mean) / std, one mean and deviation for each feature: each place on the last axis

    Attributes:
        shape: of one example.
        dtype: `float32`, or `int32` for whole numbers that are names, such as tokens.
        mean, std: of each feature; None leaves the numbers as they are.

    Raises:
        UserError: another dtype, or a scale that is not one number for each feature.

    Example:
        >>> inputs = ArrayFormat((3, 2), "float32", mean=(1.0, 2.0), std=(1.0, 4.0))
        >>> inputs.prepare(tf.fill((5, 3, 2), 4.0))[0, 0].numpy().tolist()
        [3.0, 0.5]
    """

    kind: ClassVar[Kind] = ARRAYS

    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("float32", "int32"))
        given = [values for values in (self.mean, self.std) if values is not None]
        if given and not (len(given) == 2 and all(len(values) == self.shape[-1] for values in given) and all(given[1])):
            raise UserError(f"mean and std must be {self.shape[-1]} numbers each, and no std 0: one for each feature")

    def signature(self) -> tf.TensorSpec:
        """An exported model takes arrays as they were in training."""
        return tf.TensorSpec([None, *self.shape], self.dtype)

    def prepare(self, arrays: tf.Tensor) -> tf.Tensor:
        """Arrays on the scale that the model is trained on."""
        arrays = tf.cast(arrays, self.dtype)
        if self.mean is None or self.std is None:
            return arrays
        return (arrays - tf.constant(self.mean, self.dtype)) / tf.constant(self.std, self.dtype)

    def pictures(self, arrays: np.ndarray) -> None:
        """Numbers cannot be shown."""

    def describe(self) -> dict[str, Any]:
        """The entry `arrays` of metadata.json."""
        scale = {"mean": self.mean and list(self.mean), "std": self.std and list(self.std)}
        return {"shape": list(self.shape), "dtype": self.dtype, **scale}

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> ArrayFormat:
        """The format that `describe` described."""
        mean, std = (described[name] and tuple(map(float, described[name])) for name in ("mean", "std"))
        return cls(tuple(map(int, described["shape"])), described["dtype"], mean, std)
