"""A SavedModel of `bin/export.py` in use, and what it learned, kept in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.deploy.metadata import FORMAT
from tf_mamlpp.errors import UserError, reason
from tf_mamlpp.files import whole_file

_CHUNK = 256  # pictures answered at once, so that memory does not grow with their number


@dataclass(frozen=True)
class Learned:
    """A task that a deployed model has learned.

    Attributes:
        state: `[P]` float32, see `TaskLearner`.
        class_names: class c's name.
        images: `[S, height, width, C]` uint8, the support set, kept to be shown.
        labels: `[S]` int32.
    """

    state: np.ndarray
    class_names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes an `.npz` file, whole or not at all; raises a UserError if it cannot."""
        arrays: dict[str, Any] = {"state": self.state, "class_names": np.array(self.class_names)}
        try:
            with whole_file(Path(file)) as part, open(part, "wb") as opened:
                np.savez_compressed(opened, **arrays, images=self.images, labels=self.labels)
        except OSError as error:
            raise UserError(f"state '{file}' cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Learned:
        """Reads what `save` wrote; raises a UserError if it is missing or damaged."""
        try:
            with np.load(file, allow_pickle=False) as held:
                state, names, images, labels = (held[k] for k in ("state", "class_names", "images", "labels"))
        except OSError as error:
            raise UserError(f"state '{file}' cannot be read: {error.strerror or error}") from error
        except Exception as error:  # a damaged archive raises nearly anything
            raise UserError(f"state '{file}' is damaged or was not written by bin/adapt.py: {error}") from error
        good = (
            (state.dtype, state.ndim, images.dtype, images.ndim) == (np.float32, 1, np.uint8, 4)
            and (labels.dtype, labels.shape, names.ndim) == (np.int32, images.shape[:1], 1)
            and ((labels >= 0) & (labels < len(names))).all()
        )
        if not good:
            raise UserError(f"state '{file}' was not written by bin/adapt.py: learn the task again")
        return cls(state, tuple(map(str, names)), images, labels)


class DeployedModel:
    """An exported model, loaded.

    Args:
        folder: what `bin/export.py` wrote.

    Raises:
        UserError: the folder holds no such model.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        folder = Path(folder)
        try:
            about = json.loads((folder / "metadata.json").read_text())
            form, self.way, self.state_size = about["format"], int(about["way"]), int(about["state_size"])
            self.query_statistics = str(about["query_statistics"])
            self.channels = int(about["pictures"]["channels"])
            height, width = map(int, about["pictures"]["trained_size"])
            self.resize_policy = str(about["pictures"]["resize"])
            if min(self.way, self.state_size, self.channels, height, width) < 1:
                raise ValueError("a size in it is not positive")
        except FileNotFoundError:
            raise UserError(f"'{folder}' holds no exported model: write one with bin/export.py") from None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"'{folder / 'metadata.json'}' is damaged: {error!r}; export the model again") from error
        if form != FORMAT:
            raise UserError(f"'{folder}' has format {form}, and this version reads {FORMAT}: export the model again")
        self.image_size = height, width
        try:
            self._model = tf.saved_model.load(str(folder))
            self._adapt, self._predict = (self._model.signatures[n] for n in ("adapt_uint8", "predict_uint8"))
        except Exception as error:  # damage to a graph raises nearly anything
            raise UserError(f"'{folder}' cannot be loaded: {reason(error)}; export the model again") from error

    def learn(self, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Learned:
        """Adapts to a support set.

        Args:
            images: `[S, H, W, channels]` uint8.
            labels: `[S]`, 0 to `len(class_names) - 1`.
            class_names: at most `way`.
        """
        if not 1 <= len(class_names) <= self.way:
            raise UserError(f"{len(class_names)} classes for a {self.way}-way model: give it 1 to {self.way}")
        labels = np.asarray(labels, np.int32)
        state = self._adapt(support_images=tf.constant(images), support_labels=tf.constant(labels))["state"]
        return Learned(state.numpy(), tuple(class_names), images, labels)

    def answer(self, learned: Learned, images: np.ndarray) -> np.ndarray:
        """Probabilities `[Q, len(class_names)]` float32 of pictures `[Q, H, W, channels]` uint8."""
        chunk = len(images) if self.query_statistics == "batch" else _CHUNK
        try:
            found = [
                self._predict(state=tf.constant(learned.state), images=tf.constant(images[i : i + chunk]))
                for i in range(0, len(images), chunk or 1)
            ]
        except tf.errors.InvalidArgumentError as error:
            raise UserError(
                "the learned state does not belong to this model: learn the task again, with the same --model"
            ) from error
        empty = np.zeros((0, self.way), np.float32)
        return np.concatenate([empty, *(f["probabilities"].numpy() for f in found)])[:, : len(learned.class_names)]
