"""When a run is saved, and how it ends early."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tf_mamlpp.runtime import in_main_thread
from tf_mamlpp.training.checkpoints import Checkpoints


class Interrupted(SystemExit):
    """A signal ended the run after its checkpoint was saved.

    Example:
        >>> Interrupted(128 + signal.SIGTERM).code
        143
    """


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves every `every` updates, at each epoch's end, and before SIGTERM or SIGINT ends the run.

    An epoch's last update is saved with its validation; the one before it, so that a run that ends during validation
    has one update to do again.

    Args:
        checkpoints: where to.
        start: updates done before this `fit`.
        every: updates between checkpoints.
        updates: of a full epoch.
        score: the validation log that ranks epochs.
        minimise: whether smaller is better.
        any_worker: whether a flag of this process is set in any of those that train together, so that a signal to one
            of them ends all at the same update.

    Example:
        >>> from tf_mamlpp.config import Config, Data, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> learner = make_learner(Config(data=Data(name="sinusoid"), model=Model(name="mlp")))
        >>> checkpoints = Checkpoints(tmp_path, learner)
        >>> saver = SaveCheckpoints(checkpoints, start=0, every=2, updates=10, score="mean_squared_error")
        >>> saver.on_train_batch_end(0), saver.on_train_batch_end(1)
        (None, None)
        >>> checkpoints.restore_latest()
        2
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
        any_worker: Callable[[bool], bool] = bool,
    ):
        super().__init__()
        self.checkpoints, self.every, self.updates, self.score = checkpoints, every, updates, score
        self.sign = -1.0 if minimise else 1.0
        self.any_worker = any_worker
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
        """While this lasts, SIGTERM and SIGINT wait for the update under way and a checkpoint.

        Outside the main thread they do what they did before.
        """
        numbers = (signal.SIGTERM, signal.SIGINT) if in_main_thread() else ()
        handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
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
        ends = self.any_worker(self._signal is not None)
        left = -self.update % self.updates
        if left and (ends or left == 1 or self.update % self.every == 0):
            self._save(ends)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.any_worker(self._signal is not None):
            self._end("ended during validation")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.checkpoints.save_best(self.update, epoch, self.sign * float(logs["val_" + self.score]))
        self._save(self.any_worker(self._signal is not None))

    def _save(self, ends: bool) -> None:
        self.checkpoints.save(self.update, self.seconds)
        if ends:
            self._end(f"saved update {self.update}")

    def _end(self, what: str) -> None:
        print(f"\n{what}; the same command resumes at update {int(self.checkpoints.update)}", flush=True)
        raise Interrupted(128 + (self._signal or signal.SIGTERM))
