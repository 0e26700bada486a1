"""Callbacks for `fit`."""
from __future__ import annotations
from typing import Any
import keras
from tf_mamlpp import schedules


class Schedules(keras.callbacks.Callback):
    """Sets what changes from epoch to epoch: loss weights, derivative order, outer rate."""

    def __init__(self, epochs: int | None = None):
        super().__init__()
        self.epochs = epochs

    def on_train_begin(self, logs: Any = None) -> None:
        self._rate = float(self.model.optimizer.learning_rate)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.model.set_epoch(epoch):
            self.model.make_train_function(force=True)
        if self.model.cosine_annealing:
            epochs = self.epochs or self.params["epochs"]
            self.model.optimizer.learning_rate = schedules.cosine_rate(
                epoch, epochs, self._rate, self.model.minimum_rate
            )
