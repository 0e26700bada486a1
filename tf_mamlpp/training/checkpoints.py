"""Checkpoints of a run: the latest, to resume exactly, and the best validation epochs, for the ensemble."""

from __future__ import annotations

import json
import math
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import Diverged, UserError, reason, writing
from tf_mamlpp.files import plain_path, write_json
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.workers import Workers


def _raw(variables: Sequence[Any]) -> list[tf.Variable]:
    """The TensorFlow variables inside Keras's: what `tf.train.Checkpoint` saves by position, and any replica layout
    can restore."""
    return [getattr(v, "value", v) for v in variables]


# Cut short: IndexError.
_UNREADABLE = (tf.errors.OpError, OSError, AssertionError, ValueError, LookupError, RuntimeError)


class Checkpoints:
    """The folder `checkpoints/` of a run.

    Args:
        folder: is made if missing.
        learner: compiled, so that its optimizer belongs to what is saved.
        keep_best: how many of the best validation epochs are kept.
        workers: that train together; the chief alone reads and writes the folder, but all of them save and restore.
            None for this process alone.

    Example:
        >>> from tf_mamlpp.config import Config, Data, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> learner = make_learner(Config(data=Data(name="sinusoid"), model=Model(name="mlp")))
        >>> checkpoints = Checkpoints(tmp_path / "checkpoints", learner)
        >>> checkpoints.save(update=100, seconds=12.5)
        >>> checkpoints.restore_latest(), float(checkpoints.seconds)
        (100, 12.5)
    """

    def __init__(self, folder: Path, learner: EpisodicModel, keep_best: int = 5, workers: Workers | None = None):
        self.folder, self.keep_best, self._learner = folder, keep_best, learner
        self._workers = workers or Workers(tf.distribute.get_strategy())
        self.update = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        # Of the epoch so far; copies, for the learner's are summed over replicas whenever they are read.
        self._metrics = [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in learner.metrics_variables]
        self._all = tf.train.Checkpoint(
            learner=_raw(learner.variables),
            optimizer=_raw(learner.optimizer.variables),
            metrics=self._metrics,
            update=self.update,
            seconds=self.seconds,
        )
        self._weights = tf.train.Checkpoint(learner=_raw(learner.variables))

    def save(self, update: int, seconds: float) -> None:
        """Saves everything after outer update `update`, `seconds` of training time into the run."""
        self.check_finite(update)
        before = int(self.update)  # what was restored or saved last, whatever other files lie there
        self.update.assign(update)
        self.seconds.assign(seconds)
        for kept, variable in zip(self._metrics, self._learner.metrics_variables, strict=True):
            kept.assign(variable)
        if not self._workers.chief:
            return
        self._write(self._all, "update", update)
        with writing(self.folder):
            self._remove("update", keep=(before, update))

    def _write(self, checkpoint: tf.train.Checkpoint, kind: str, update: int) -> str:
        """Writes a checkpoint, whole or not at all; returns its path."""
        name, path = f"{kind}-{update}", self._path(kind, update)
        try:
            with writing(self.folder, tf.errors.OpError):
                self.folder.mkdir(parents=True, exist_ok=True)
                with plain_path(self.folder) as folder:
                    checkpoint.write(f"{folder}/{name}")
        except UserError:
            for file in self.folder.glob(f"{name}.*"):
                file.unlink()
            shutil.rmtree(f"{path}_temp", ignore_errors=True)
            raise
        return path

    def _read(self, checkpoint: tf.train.Checkpoint, kind: str, update: int) -> None:
        """Reads a checkpoint, and all of it."""
        with plain_path(self.folder) as folder:
            checkpoint.read(f"{folder}/{kind}-{update}").assert_consumed()

    def check_finite(self, update: int) -> None:
        """Refuses weights that no run can go on from: a finite loss can have a meta-gradient that is not."""
        for variable in self._learner.trainable_variables:
            if not np.isfinite(variable.numpy()).all():
                raise Diverged(f"'{variable.path}' is not finite after update {update}")

    def _updates(self) -> list[int]:
        """The updates of which there are files, whole or not, oldest first."""
        names = {file.name.split(".")[0].removeprefix("update-") for file in self.folder.glob("update-*.*")}
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _remove(self, kind: str, keep: Sequence[int]) -> None:
        """Deletes other checkpoints, and the folders in which a kill left half of one."""
        kept = {f"{kind}-{update}" for update in keep}
        for file in self.folder.glob(f"{kind}-*"):
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            elif file.name.split(".")[0] not in kept:
                file.unlink(missing_ok=True)

    def restore_latest(self) -> int:
        """Restores the latest readable checkpoint; returns its update, 0 if there is none."""
        if self._workers.chief:
            self._read_latest()
        learner = self._learner
        state = _raw([*learner.variables, *learner.optimizer.variables])
        self._workers.share_variables([*state, *self._metrics, self.update, self.seconds])
        for variable, kept in zip(learner.metrics_variables, self._metrics, strict=True):
            variable.assign(kept)
        return int(self.update)

    def _read_latest(self) -> None:
        while True:
            updates = self._updates()
            for update in reversed(updates):
                try:
                    self._read(self._all, "update", update)
                    if update != int(self.update):
                        raise ValueError(f"it is of update {int(self.update)}")
                    return
                except _UNREADABLE as error:
                    self._report_unreadable(update, error)
            if updates == self._updates():
                break  # else a run that goes on has replaced them meanwhile
        if updates:
            raise UserError(f"no checkpoint in '{self.folder}' can be read: move the run away and start again")

    def _report_unreadable(self, update: int, error: BaseException) -> None:
        if any(self.folder.glob(f"update-{update}.*")):  # else a run that goes on has deleted it meanwhile
            path = self._path("update", update)
            print(f"checkpoint '{path}' cannot be read ({reason(error)}), trying the one before", file=sys.stderr)

    # --- The best validation epochs -----------------------------------------------------------------

    @property
    def best(self) -> list[dict[str, Any]]:
        """`{"update", "epoch", "score", "index_crc32"}` of the kept epochs, best first; the last tells files apart.

        Raises:
            UserError: the list is damaged, or missing beside the files that it lists.
        """
        file = self.folder / "best.json"
        try:
            entries = json.loads(file.read_text())
            if not isinstance(entries, list) or not all(map(_is_entry, entries)):
                raise ValueError("it is no list of epochs")
            return entries
        except FileNotFoundError:
            if not any(self.folder.glob("best-*.index")):
                return []
            problem = "is missing"
        except (OSError, ValueError, RecursionError) as error:
            problem = f"is damaged: {reason(error)}"
        raise UserError(
            f"'{file}' {problem}; put it back, or delete it and the files best-* to start a new list of epochs"
        )

    def save_best(self, update: int, epoch: int, score: float) -> None:
        """Keeps this epoch's weights if it is among the best; an earlier epoch wins a tie."""
        self.check_finite(update)
        if not self._workers.chief:
            return
        entry: dict[str, Any] = {"update": update, "epoch": epoch, "score": score}
        entries = [*(e for e in self.best if e["update"] != update), entry]
        entries.sort(key=lambda e: (-e["score"], e["update"]))
        if entries.index(entry) < self.keep_best:
            entry["index_crc32"] = _index_crc32(self._write(self._weights, "best", update))
            self._write_best(entries[: self.keep_best])

    def restore_best(self, rank: int = 0) -> dict[str, Any]:
        """Restores the weights (not the optimizer) of the kept epoch `rank`, 0 the best.

        Returns:
            Its entry of `best`.
        """
        while True:
            entry = self.best[rank]
            try:
                self._restore_best_epoch(entry)
                return entry
            except UserError:
                if entry in self.best:
                    raise
                # A run that goes on has replaced it meanwhile.

    def best_members(self, count: int) -> list[Callable[[], None]]:
        """Functions that each put the weights of one of the best epochs into the learner, the best first.

        All are read now, so that a run that goes on cannot change which epochs they are, and stay in memory.

        Args:
            count: how many, or as many as there are.
        """
        variables = _raw(self._learner.variables)
        while True:
            entries = self.best[:count]
            try:
                values = []
                for entry in entries:
                    self._restore_best_epoch(entry)
                    values.append([v.numpy() for v in variables])
                return [partial(_assign, variables, member) for member in values]
            except UserError:
                if entries == self.best[:count]:
                    raise
                # A run that goes on has replaced them meanwhile.

    def _restore_best_epoch(self, entry: dict[str, Any]) -> None:
        path = self._path("best", entry["update"])
        try:
            if entry.get("index_crc32") not in (None, _index_crc32(path)):  # None: written before it was kept
                raise ValueError("its files are another epoch's, or damaged")
            self._read(self._weights, "best", entry["update"])
        except _UNREADABLE as error:
            raise UserError(f"checkpoint '{path}' cannot be read: {reason(error)}") from error

    def _path(self, kind: str, update: int) -> str:
        return str(self.folder / f"{kind}-{update}")

    def forget_best_after(self, update: int) -> None:
        """Drops the epochs that a resumed run has yet to do: a kill may have come between their two checkpoints."""
        if self._workers.chief:
            self._write_best([e for e in self.best if e["update"] <= update])

    def _write_best(self, entries: list[dict[str, Any]]) -> None:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "best.json", entries)
            self._remove("best", keep=[e["update"] for e in entries])


def _assign(variables: Sequence[tf.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not all(type(entry.get(name)) is int for name in ("update", "epoch")):
        return False
    return isinstance(entry.get("score"), int | float) and -math.inf < entry["score"] < math.inf


def _index_crc32(path: str) -> int:
    """A checksum of the index of a checkpoint, which holds the checksums of all its tensors."""
    return zlib.crc32(Path(f"{path}.index").read_bytes())
