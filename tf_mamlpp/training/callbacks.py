"""What happens around the updates of `fit`: logs, warnings, progress, a clear end."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_mamlpp.errors import Diverged, writing
from tf_mamlpp.files import write_text
from tf_mamlpp.records.diagnosis import Finding, diagnose
from tf_mamlpp.records.run_files import UPDATE_LOGS, read_metrics, read_updates, rounded
from tf_mamlpp.records.series import WINDOW, leap
from tf_mamlpp.text import duration
from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first update whose loss is not finite, before a checkpoint can keep it.

    Args:
        updates_before: done before this `fit`.

    Raises:
        Diverged: in the update.

    Example:
        >>> StopOnNonFinite(updates_before=9).on_train_batch_end(0, {"meta_loss": math.nan})
        Traceback (most recent call last):
        tf_mamlpp.errors.Diverged: the loss is nan at update 10; the last checkpoint is kept. ...
    """

    def __init__(self, updates_before: int):
        super().__init__()
        self._updates = updates_before
        self._norms: deque[float] = deque(maxlen=WINDOW)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._updates += 1
        self._norms.append(logs.get("gradient_norm", math.nan))
        if not math.isfinite(logs["meta_loss"]):
            raise Diverged(f"the loss is {logs['meta_loss']} at update {self._updates}{leap(self._norms)}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in logs.items():
            if name not in UPDATE_LOGS and not math.isfinite(value):
                raise Diverged(f"{name} is {value} after update {self._updates}{leap(self._norms)}")


class MetricsFile(keras.callbacks.Callback):
    """Appends one JSON line an epoch to `metrics.jsonl`; a resumed run drops the lines that it will write again.

    `seconds` is the training time of the run so far, with validation, `seconds_per_update` the median of the epoch's
    updates alone.

    Args:
        path: of the file.
        saver: knows the update and the time.

    Example:
        >>> from types import SimpleNamespace
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), way=2)
        >>> learner.compile("adam")
        >>> file = MetricsFile(tmp_path / "metrics.jsonl", saver=SimpleNamespace(update=100, seconds=12.5))
        >>> file.set_model(learner)
        >>> file.on_train_begin()
        >>> file.on_epoch_end(0, {"loss": 1.5})
        >>> row = json.loads(file.path.read_text())
        >>> row["epoch"], row["update"], row["loss"], row["second_order"]
        (1, 100, 1.5, True)
    """

    def __init__(self, path: Path, saver: SaveCheckpoints):
        super().__init__()
        self.path, self.saver = path, saver
        self._times: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        rows = read_metrics(self.path)
        with writing(self.path.parent):
            _rewrite(self.path, "".join(json.dumps(row) + "\n" for row in rows if row["update"] <= self.saver.update))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._times.clear()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._times.append(time.monotonic() - self._began)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {
            "epoch": epoch + 1,
            "update": self.saver.update,
            "seconds": round(self.saver.seconds, 2),
            "seconds_per_update": round(float(np.median(self._times)), 4) if self._times else None,
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            **rounded(self.model.epoch_record()),
            **{k: float(v) for k, v in logs.items() if k not in UPDATE_LOGS},
        }
        with writing(self.path.parent), open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def _rewrite(path: Path, text: str) -> None:
    """Replaces what a file holds, whole or not at all, if it exists and holds anything else."""
    if path.exists() and path.read_bytes() != text.encode():
        write_text(path, text)


class UpdatesFile(keras.callbacks.Callback):
    """Appends a line an update to `updates.csv`: its number and `run_files.UPDATE_LOGS`, to six digits.

    A resumed run drops the lines that it will write again; lines that are lost become NaN.  Its place is before the
    saver, so that an update that is saved has its line.

    Args:
        path: of the file.
        saver: knows the update.

    Example:
        >>> from types import SimpleNamespace
        >>> file = UpdatesFile(tmp_path / "updates.csv", saver=SimpleNamespace(update=0))
        >>> file.on_train_begin()
        >>> file.on_train_batch_end(0, {"update_loss": 1.25, "gradient_norm": 3.0})
        >>> file.path.read_text().splitlines()
        ['update,update_loss,gradient_norm,clipped', '1,1.25,3,0']
    """

    def __init__(self, path: Path, saver: SaveCheckpoints):
        super().__init__()
        self.path, self.saver = path, saver

    def on_train_begin(self, logs: Any = None) -> None:
        columns = read_updates(self.path)
        lines = [",".join(columns) + "\n"]
        rows = zip(*(series[: self.saver.update] for series in columns.values()), strict=True)
        lines += [self._line(*row) for row in rows]
        lost = [math.nan] * len(UPDATE_LOGS)
        lines += [self._line(update, *lost) for update in range(len(lines), self.saver.update + 1)]
        with writing(self.path.parent):
            _rewrite(self.path, "".join(lines))
            if not self.path.exists():
                self.path.write_text("".join(lines))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        with writing(self.path.parent), open(self.path, "a") as file:
            file.write(self._line(self.saver.update + 1, *(logs.get(name, 0.0) for name in UPDATE_LOGS)))

    @staticmethod
    def _line(update: float, *values: float) -> str:
        return ",".join([f"{int(update)}", *(f"{float(value):.6g}" for value in values)]) + "\n"


class StabilityWarnings(keras.callbacks.Callback):
    """Says on stderr, at the end of the epoch, what `diagnosis.diagnose` finds: each finding once.

    A run so long that this takes seconds is looked at less often: it costs no more than a hundredth of the time.  Its
    place is after the files.

    Args:
        metrics: the run's `metrics.jsonl`.
        updates: the run's `updates.csv`.

    Example:
        >>> StabilityWarnings(tmp_path / "metrics.jsonl", tmp_path / "updates.csv").updates.name
        'updates.csv'
    """

    def __init__(self, metrics: Path, updates: Path):
        super().__init__()
        self.metrics, self.updates = metrics, updates
        self._said: set[tuple[str, int]] = set()
        self._next = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._said.update(map(self._key, self._findings()))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if time.monotonic() < self._next:
            return
        for finding in self._findings():
            if self._key(finding) not in self._said:
                print(f"{'warning' if finding.unstable else 'note'}: {finding.text}", file=sys.stderr, flush=True)
                self._said.add(self._key(finding))

    @staticmethod
    def _key(finding: Finding) -> tuple[str, int]:
        """The last inner steps hurt in every epoch, if they do: once is enough."""
        return finding.kind, finding.update if finding.kind != "overshoot" else 0

    def _findings(self) -> tuple[Finding, ...]:
        began = time.monotonic()
        rows = read_metrics(self.metrics)
        findings = diagnose(rows, read_updates(self.updates), metric=self.model.metric_name).findings
        took = time.monotonic() - began
        self._next = began + 100 * took if took > 1 else 0.0
        return findings


class Progress(keras.callbacks.Callback):
    """Keras's progress bar, without the per-step values and with the time left for the whole run.

    Away from a terminal it is one line an epoch.

    Args:
        epochs: of the whole run.
        name: before an epoch's number.

    Example:
        >>> import tf_mamlpp as mp
        >>> bar = Progress(epochs=3)
        >>> bar.set_params({"steps": 10})
        >>> bar.set_model(mp.MetaLearner(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), way=2))
        >>> bar.on_epoch_begin(0)
        Epoch 1/3
    """

    def __init__(self, epochs: int, name: str = "Epoch"):
        super().__init__()
        self._epochs, self._name = epochs, name
        self._verbose = 1 if sys.stdout.isatty() else 2
        self._started: tuple[int, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        now, left = time.monotonic(), ""
        if self._started:
            first, then = self._started
            left = f", about {duration((now - then) / (epoch - first) * (self._epochs - epoch))} left"
        else:
            self._started = epoch, now
        print(f"{self._name} {epoch + 1}/{self._epochs}{left}", flush=True)
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
