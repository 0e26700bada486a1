"""Checkpoints of a run: the latest, to resume exactly, and the best validation epochs, for the ensemble."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta_learner import MetaLearner


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


class Checkpoints:
    """The folder `checkpoints/` of a run.

    Args:
        folder: is made if missing.
        learner: compiled, so that its optimizer belongs to what is saved.
        keep_best: how many of the best validation epochs are kept.
    """

    def __init__(self, folder: Path, learner: MetaLearner, keep_best: int = 5):
        self.folder, self.keep_best = folder, keep_best
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
        self._manager = tf.train.CheckpointManager(
            self._all, str(folder), max_to_keep=2, checkpoint_name="update", step_counter=self.update
        )

    def save(self, update: int, seconds: float) -> None:
        """Saves everything after outer update `update`, `seconds` of training time into the run."""
        self.update.assign(update)
        self.seconds.assign(seconds)
        try:
            self._manager.save(checkpoint_number=update)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"cannot save a checkpoint in '{self.folder}': {_first_line(error)}; free some space or mend its "
                "permissions and run the same command again: the checkpoint before this one is whole"
            ) from error

    def restore_latest(self) -> int:
        """Restores the latest readable checkpoint; returns its update, 0 if there is none."""
        damaged = []
        for path in reversed(self._manager.checkpoints):
            try:
                self._all.restore(path).assert_consumed()
            except (tf.errors.OpError, AssertionError, ValueError) as error:
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
            return json.loads((self.folder / "best.json").read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise UserError(
                f"'{self.folder / 'best.json'}' is damaged: {error}; delete it to start a new list"
            ) from error

    def save_best(self, update: int, epoch: int, score: float) -> None:
        """Keeps this epoch's weights if it is among the best; an earlier epoch wins a tie."""
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
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            raise UserError(f"checkpoint '{path}' cannot be read: {_first_line(error)}") from error

    def _best_path(self, update: int) -> str:
        return str(self.folder / f"best-{update}")

    def forget_best_after(self, update: int) -> None:
        """Drops the epochs that a resumed run has yet to do: a kill may have come between their two checkpoints."""
        self._write_best([e for e in self.best if e["update"] <= update])

    def _write_best(self, entries: list[dict[str, Any]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "best.json", entries)
        kept = {f"best-{e['update']}" for e in entries}
        for file in self.folder.glob("best-*"):
            if file.name.split(".")[0] not in kept:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
