"""What a deployed model has adapted to, kept in a file."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_mamlpp.errors import UserError
from tf_mamlpp.files import whole_file

_MOST_BYTES = 1 << 32  # of all arrays


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

    def to_bytes(self) -> bytes:
        """The content of an `.npz` file."""
        content, names = io.BytesIO(), np.array(self.class_names)
        np.savez_compressed(content, state=self.state, class_names=names, images=self.images, labels=self.labels)
        return content.getvalue()

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes an `.npz` file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        try:
            with whole_file(Path(file)) as part:
                part.write_bytes(self.to_bytes())
        except OSError as error:
            raise UserError(f"state '{file}' cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> AdaptedTask:
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            return cls.from_bytes(Path(file).read_bytes(), os.fspath(file))
        except OSError as error:
            raise UserError(f"state '{file}' cannot be read: {error.strerror or error}") from error

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> AdaptedTask:
        """Reads what `to_bytes` made.

        Args:
            content: of an `.npz` file.
            name: what to call it in an error.

        Raises:
            UserError: it is damaged.
        """
        try:
            _check_size(content)
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                state, names, images, labels = (arrays[k] for k in ("state", "class_names", "images", "labels"))
        except Exception as error:  # a damaged archive raises nearly anything
            raise UserError(f"state '{name}' is damaged or was not written by tf-mamlpp adapt: {error}") from error
        is_consistent = (
            (state.dtype, state.ndim) == (np.float32, 1)
            and images.dtype in (np.uint8, np.int32, np.float32)
            and images.ndim > 1
            and (labels.dtype, labels.shape, names.ndim) == (np.int32, images.shape[:1], 1)
            and ((labels >= 0) & (labels < len(names))).all()
        )
        if not is_consistent:
            raise UserError(f"state '{name}' was not written by tf-mamlpp adapt: learn the task again")
        return cls(state, tuple(map(str, names)), images, labels)


def _check_size(content: bytes) -> None:
    """Refuses a small file that would fill the memory."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError(f"it unpacks to over {_MOST_BYTES >> 20} MB")
