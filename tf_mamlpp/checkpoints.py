"""Checkpoints of a run: the latest, to resume exactly, and the best validation epochs, for the ensemble."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.episodic import EpisodicModel
from tf_mamlpp.errors import DIVERGED, UserError


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _raw(variables: Sequence[Any]) -> list[tf.Variable]:
    """The TensorFlow variables inside Keras's: what `tf.train.Checkpoint` saves by position, and any replica layout
    can restore."""
    return [getattr(v, "value", v) for v in variables]


_UNREADABLE = (tf.errors.OpError, AssertionError, ValueError, LookupError, RuntimeError)  # cut short: IndexError
_ENTRY = {"update", "epoch", "score"}


class Checkpoints:
    """The folder `checkpoints/` of a run.

    Args:
        folder: is made if missing.
        learner: compiled, so that its optimizer belongs to what is saved.
        keep_best: how many of the best validation epochs are kept.
    """

    def __init__(self, folder: Path, learner: EpisodicModel, keep_best: int = 5):
        self.folder, self.keep_best, self._learner = folder, keep_best, learner
        self.update = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._all = tf.train.Checkpoint(
            learner=_raw(learner.variables),
            optimizer=_raw(learner.optimizer.variables),
            metrics=_raw(learner.metrics_variables),  # of the epoch so far
            update=self.update,
            seconds=self.seconds,
        )
        self._weights = tf.train.Checkpoint(learner=_raw(learner.variables))

    def save(self, update: int, seconds: float) -> None:
        """Saves everything after outer update `update`, `seconds` of training time into the run."""
        self.check_finite(update)
        self.update.assign(update)
        self.seconds.assign(seconds)
        try:
            self._all.write(str(self.folder / f"update-{update}"))
            self._remove("update", keep=self._updates()[-2:])
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"cannot save a checkpoint in '{self.folder}': {_first_line(error)}; free some space or mend its "
                "permissions and run the same command again: the checkpoint before this one is whole"
            ) from error

    def check_finite(self, update: int) -> None:
        """Refuses weights that no run can go on from: a finite loss can have a meta-gradient that is not."""
        for variable in self._learner.trainable_variables:
            if not np.isfinite(variable.numpy()).all():
                raise UserError(f"'{variable.path}' is not finite after update {update}; {DIVERGED}")

    def _updates(self) -> list[int]:
        """The updates of which there are files, whole or not, oldest first."""
        names = {file.name.split(".")[0].removeprefix("update-") for file in self.folder.glob("update-*.*")}
        return sorted(int(name) for name in names if name.isdigit())

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
        damaged = []
        for path in (str(self.folder / f"update-{update}") for update in reversed(self._updates())):
            try:
                self._all.read(path).assert_consumed()
            except _UNREADABLE as error:
                damaged.append(path)
                print(
                    f"checkpoint '{path}' cannot be read ({_first_line(error)}), trying the one before",
                    file=sys.stderr,
                )
                continue
            return int(self.update)
        if damaged:
            raise UserError(f"no checkpoint in '{self.folder}' can be read: move the run away and start again")
        return 0

    # --- The best validation epochs -----------------------------------------------------------------

    @property
    def best(self) -> list[dict[str, Any]]:
        """`{"update", "epoch", "score"}` of the kept epochs, best first."""
        try:
            entries = json.loads((self.folder / "best.json").read_text())
            if not isinstance(entries, list) or not all(isinstance(e, dict) and _ENTRY <= e.keys() for e in entries):
                raise ValueError("not a list of epochs")
            return entries
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise UserError(
                f"'{self.folder / 'best.json'}' is damaged: {error}; delete it to start a new list"
            ) from error

    def save_best(self, update: int, epoch: int, score: float) -> None:
        """Keeps this epoch's weights if it is among the best; an earlier epoch wins a tie."""
        self.check_finite(update)
        entries = [e for e in self.best if e["update"] != update]
        entries.append({"update": update, "epoch": epoch, "score": score})
        entries.sort(key=lambda e: (-e["score"], e["update"]))
        if entries.index({"update": update, "epoch": epoch, "score": score}) < self.keep_best:
            self._weights.write(self._best_path(update))
            self._write_best(entries[: self.keep_best])

    def restore_best(self, rank: int = 0) -> None:
        """Restores the weights (not the optimizer) of the kept epoch `rank`, 0 the best."""
        path = self._best_path(self.best[rank]["update"])
        try:
            self._weights.read(path).assert_consumed()
        except _UNREADABLE as error:
            raise UserError(f"checkpoint '{path}' cannot be read: {_first_line(error)}") from error

    def _best_path(self, update: int) -> str:
        return str(self.folder / f"best-{update}")

    def forget_best_after(self, update: int) -> None:
        """Drops the epochs that a resumed run has yet to do: a kill may have come between their two checkpoints."""
        self._write_best([e for e in self.best if e["update"] <= update])

    def _write_best(self, entries: list[dict[str, Any]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "best.json", entries)
        self._remove("best", keep=[e["update"] for e in entries])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
