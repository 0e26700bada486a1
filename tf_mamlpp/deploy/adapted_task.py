"""What a deployed model has adapted to, kept in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError
from tf_mamlpp.files import whole_file


@dataclass(frozen=True)
class AdaptedTask:
    """A task that a deployed model has adapted to.

    Attributes:
        state: `[P]` float32, see `TaskLearner`.
        class_names: the name of each class.
        images: the support set, kept to be shown and to learn more beside it: pictures `[S, height, width, C]` uint8,
            or other examples `[S, ...]`.
        labels: `[S]` int32, positions in `class_names`.

    Example:
        >>> images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1], np.int32)
        >>> task = AdaptedTask(np.zeros(10, np.float32), ("cat", "dog"), images, labels)
        >>> task.save(tmp_path / "task.npz")
        >>> AdaptedTask.load(tmp_path / "task.npz").class_names
        ('cat', 'dog')
    """

    state: np.ndarray
    class_names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes an `.npz` file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        arrays: dict[str, Any] = {"state": self.state, "class_names": np.array(self.class_names)}
        try:
            with whole_file(Path(file)) as part, open(part, "wb") as opened:
                np.savez_compressed(opened, **arrays, images=self.images, labels=self.labels)
        except OSError as error:
            raise UserError(f"state '{file}' cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> AdaptedTask:
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                state, names, images, labels = (arrays[k] for k in ("state", "class_names", "images", "labels"))
        except OSError as error:
            raise UserError(f"state '{file}' cannot be read: {error.strerror or error}") from error
        except Exception as error:  # a damaged archive raises nearly anything
            raise UserError(f"state '{file}' is damaged or was not written by bin/adapt.py: {error}") from error
        is_consistent = (
            (state.dtype, state.ndim) == (np.float32, 1)
            and images.dtype in (np.uint8, np.int32, np.float32)
            and images.ndim > 1
            and (labels.dtype, labels.shape, names.ndim) == (np.int32, images.shape[:1], 1)
            and ((labels >= 0) & (labels < len(names))).all()
        )
        if not is_consistent:
            raise UserError(f"state '{file}' was not written by bin/adapt.py: learn the task again")
        return cls(state, tuple(map(str, names)), images, labels)
