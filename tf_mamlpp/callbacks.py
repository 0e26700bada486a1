"""What happens around the updates of `fit`: checkpoints, logs, a clear end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from tf_mamlpp.checkpoints import Checkpoints
from tf_mamlpp.errors import DIVERGED, UserError


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first update whose loss is not finite, before a checkpoint can keep it."""

    def __init__(self, updates_before: int):
        super().__init__()
        self._updates = updates_before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._updates += 1
        if not math.isfinite(logs["meta_loss"]):
            raise UserError(f"the loss is {logs['meta_loss']} at update {self._updates}; {DIVERGED}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in logs.items():
            if not math.isfinite(value):
                raise UserError(f"{name} is {value} after update {self._updates}; {DIVERGED}")


class Interrupted(SystemExit):
    """A signal ended the run after its checkpoint was saved."""


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves every `every` updates, at each epoch's end, and before SIGTERM or SIGINT ends the run.

    Args:
        checkpoints: where to.
        start: updates done before this `fit`.
        every: updates between checkpoints.
        updates: of a full epoch.
        score: the validation log that ranks epochs; larger is better unless `minimise`.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        start: int,
        every: int,
        updates: int,
        score: str,
        minimise: bool = False,
    ):
        super().__init__()
        self.checkpoints, self.every, self.updates, self.score = checkpoints, every, updates, score
        self.sign = -1.0 if minimise else 1.0
        self.update = start
        self._before = float(checkpoints.seconds)
        self._signal: int | None = None
        self._began = time.monotonic()
        self._metrics: list[Any] | None = None

    @property
    def seconds(self) -> float:
        """Training time of the whole run so far, with validation, without the time between its parts."""
        return self._before + time.monotonic() - self._began

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While this lasts, SIGTERM and SIGINT wait for the update under way and a checkpoint."""
        handlers = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._signal is not None:  # it came after the last save
            raise Interrupted(128 + self._signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal is not None:  # the second one does not wait
            raise Interrupted(128 + number)
        self._signal = number

    def on_train_begin(self, logs: Any = None) -> None:
        # `fit` resets the metrics, which in the middle of an epoch hold what the restored updates measured.
        if self.update % self.updates:
            self._metrics = [v.numpy() for v in self.model.metrics_variables]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._metrics is not None:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.update += 1
        # The last update of an epoch is saved after validation, with the epoch's result.
        if self.update % self.updates and (self._signal is not None or self.update % self.every == 0):
            self.save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.checkpoints.save_best(self.update, epoch, self.sign * float(logs["val_" + self.score]))
        self.save()

    def save(self) -> None:
        """Saves now, and ends the run if a signal asked for it."""
        self.checkpoints.save(self.update, self.seconds)
        if self._signal is not None:
            print(f"\nsaved update {self.update}; the same command resumes there", flush=True)
            raise Interrupted(128 + self._signal)


class MetricsFile(keras.callbacks.Callback):
    """Appends one JSON line an epoch to `metrics.jsonl`; a resumed run drops the lines that it will write again."""

    def __init__(self, path: Path, saver: SaveCheckpoints):
        super().__init__()
        self.path, self.saver = path, saver

    def on_train_begin(self, logs: Any = None) -> None:
        rows = read_metrics(self.path)
        text = "".join(json.dumps(row) + "\n" for row in rows if row["update"] <= self.saver.update)
        if self.path.exists() and self.path.read_text() != text:
            temporary = self.path.with_name(self.path.name + ".tmp")
            temporary.write_text(text)
            os.replace(temporary, self.path)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rates = self.model.inner_rates.table.numpy()
        row = {
            "epoch": epoch + 1,
            "update": self.saver.update,
            "seconds": round(self.saver.seconds, 2),
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            "second_order": self.model.second_order,
            "loss_weights": [round(float(w), 6) for w in self.model.loss_weights.numpy()],
            "inner_rate_minimum": float(rates.min()),
            "inner_rate_maximum": float(rates.max()),
            **{k: float(v) for k, v in logs.items()},
        }
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Progress(keras.callbacks.Callback):
    """Keras's progress bar, without the per-step values and with the time left for the whole run.

    Away from a terminal it is one line an epoch.

    Args:
        epochs: of the whole run.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self._epochs = epochs
        self._verbose = 1 if sys.stdout.isatty() else 2
        self._started: tuple[int, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        now, left = time.monotonic(), ""
        if self._started:
            first, then = self._started
            left = f", about {_duration((now - then) / (epoch - first) * (self._epochs - epoch))} left"
        else:
            self._started = epoch, now
        print(f"Epoch {epoch + 1}/{self._epochs}{left}", flush=True)
        self._bar = keras.utils.Progbar(
            self.params["steps"], verbose=self._verbose, stateful_metrics=self._names(), unit_name="update"
        )

    def _names(self) -> list[str]:
        shown = [m.name for m in self.model.metrics if not m.name.startswith("step_")]
        return shown + ["val_" + name for name in shown]

    def _values(self, logs: Any) -> list[tuple[str, float]]:
        return [(name, logs[name]) for name in self._names() if name in logs]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.update(batch + 1, self._values(logs), finalize=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.update(self.params["steps"], self._values(logs), finalize=True)
        sys.stdout.flush()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
