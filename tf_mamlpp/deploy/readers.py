"""Who reads the files that `tf-mamlpp adapt` is given: one reader for each kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from tf_mamlpp.data.bank import Bank
from tf_mamlpp.data.kinds import ARRAYS, PICTURES, SOUND
from tf_mamlpp.deploy import array_reader, file_reader
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.queries import Queries


class Reader(Protocol):
    """What a module of a kind of data reads for a deployed model; `file_reader` explains each.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.array_format import ArrayFormat
        >>> reader_of(SimpleNamespace(inputs=ArrayFormat((3,), "float32"))).__name__
        'tf_mamlpp.deploy.array_reader'
    """

    def read_support(self, model: DeployedModel, path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Examples to learn `[S, ...]`, their labels `[S]`, and the classes' names."""
        ...

    def read_queries(
        self,
        model: DeployedModel,
        path: Path,
        known: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ) -> Queries:
        """Examples to classify, and with `known` their true classes."""
        ...

    def read_pool(self, model: DeployedModel, path: Path) -> Bank:
        """All examples, to draw trials from."""
        ...


_READERS: dict[str, Reader] = {PICTURES.name: file_reader, SOUND.name: file_reader, ARRAYS.name: array_reader}


def reader_of(model: DeployedModel) -> Reader:
    """The reader of the kind of examples that a model takes.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> reader_of(SimpleNamespace(inputs=PictureFormat((8, 8), 1, mean=(0.0,), std=(1.0,)))).__name__
        'tf_mamlpp.deploy.file_reader'
    """
    return _READERS[model.inputs.kind.name]
