"""What changes from epoch to epoch: pure functions of the epoch (0-based), and the callback that applies them."""

from __future__ import annotations

import math
from typing import Any

import keras


def cosine_rate(epoch: int, epochs: int, rate: float, minimum: float) -> float:
    """The outer learning rate, annealed once an epoch (CA, section 4; Loshchilov & Hutter, arXiv 1608.03983).

    Formula:
        minimum + (rate - minimum) (1 + cos(pi epoch / epochs)) / 2
    """
    return minimum + (rate - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


class Schedules(keras.callbacks.Callback):
    """Sets what changes from epoch to epoch: loss weights, derivative order and the outer rate.

    Args:
        epochs: of the whole run, for the cosine; None for those of this `fit`.
        rate: the rate that cosine annealing starts from; None for the one compiled.
    """

    def __init__(self, epochs: int | None = None, rate: float | None = None):
        super().__init__()
        self.epochs, self.rate = epochs, rate

    def on_train_begin(self, logs: Any = None) -> None:
        learner, epochs = self.model, self.epochs or self.params["epochs"]
        if self.rate is None:
            self.rate = learner.outer_rate
        if learner.derivative_order_annealing and learner.second_order_from_epoch >= epochs:
            print(
                f"note: all {epochs} epochs have first-order gradients, second_order_from_epoch is "
                f"{learner.second_order_from_epoch}",
                flush=True,
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        assert self.rate is not None
        if self.model.set_epoch(epoch):
            self.model.make_train_function(force=True)
        if self.model.cosine_annealing:
            rate = cosine_rate(epoch, self.epochs or self.params["epochs"], self.rate, self.model.minimum_rate)
            self.model.optimizer.learning_rate = rate
