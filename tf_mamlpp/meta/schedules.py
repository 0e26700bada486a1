"""What changes from epoch to epoch: pure functions of the epoch (0-based), and the callback that applies them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras

from tf_mamlpp.meta.settings import Learner


class Phase(NamedTuple):
    """What the training graph of an epoch depends on; another phase is another graph.

    Attributes:
        second_order: whether meta-gradients are second order.
        all_steps: whether the query loss after every inner step counts, not only the last one.

    Example:
        >>> settings = Learner(multi_step_loss=True, multi_step_loss_epochs=10)
        >>> phase_of(0, settings) == phase_of(9, settings), phase_of(9, settings) == phase_of(10, settings)
        (True, False)
    """

    second_order: bool
    all_steps: bool


def phase_of(epoch: int, settings: Learner) -> Phase:
    """Derivative order (DA) and losses (MSL) of an epoch: "How to train your MAML", section 4.

    Args:
        epoch: 0-based.
        settings: of the learner.

    Example:
        >>> settings = Learner(derivative_order_annealing=True, second_order_from_epoch=50, multi_step_loss=True)
        >>> phase_of(0, settings)
        Phase(second_order=False, all_steps=True)
        >>> phase_of(60, settings)
        Phase(second_order=True, all_steps=False)
    """
    annealed = settings.derivative_order_annealing and epoch < settings.second_order_from_epoch
    return Phase(
        second_order=not (settings.first_order or annealed),
        all_steps=settings.multi_step_loss and epoch < settings.multi_step_loss_epochs,
    )


def cosine_rate(epoch: int, epochs: int, rate: float, minimum: float) -> float:
    """The outer learning rate, annealed once an epoch (CA, section 4; Loshchilov & Hutter, arXiv 1608.03983).

    Formula:
        minimum + (rate - minimum) (1 + cos(pi epoch / epochs)) / 2, and minimum after that

    Args:
        epoch: 0-based.
        epochs: until the minimum: usually those of the whole run.
        rate: of epoch 0.
        minimum: that is approached at the end.

    Example:
        >>> [round(cosine_rate(epoch, 4, 1e-3, 0.0), 6) for epoch in range(4)]
        [0.001, 0.000854, 0.0005, 0.000146]
    """
    if epoch >= epochs:
        return minimum
    return minimum + (rate - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


class Schedules(keras.callbacks.Callback):
    """Sets what changes from epoch to epoch: loss weights, derivative order and the outer rate.

    `MetaLearner.fit` adds one by itself; give your own for a run that `fit` does in parts.

    Args:
        epochs: of the whole run; None for those of this `fit`.
        rate: the rate that cosine annealing starts from; None for the one compiled.
        annealing_epochs: until cosine annealing ends; None for `epochs`.

    Example:
        >>> import tensorflow as tf, tf_mamlpp as mp
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> learner = mp.MetaLearner(model, way=2, inner_steps=1, cosine_annealing=True, minimum_rate=1e-5)
        >>> learner.compile(keras.optimizers.SGD(0.1))
        >>> schedules = Schedules(epochs=2)
        >>> schedules.set_model(learner)
        >>> schedules.on_train_begin()
        >>> schedules.on_epoch_begin(1)
        >>> round(float(learner.optimizer.learning_rate), 4)
        0.05
    """

    def __init__(self, epochs: int | None = None, rate: float | None = None, annealing_epochs: int | None = None):
        super().__init__()
        self.epochs, self.rate, self.annealing_epochs = epochs, rate, annealing_epochs

    def on_train_begin(self, logs: Any = None) -> None:
        settings, epochs = self.model.settings, self.epochs or self.params["epochs"]
        if self.rate is None:
            self.rate = self.model.outer_rate
        if settings.derivative_order_annealing and settings.second_order_from_epoch >= epochs:
            print(
                f"note: all {epochs} epochs have first-order gradients, second_order_from_epoch is "
                f"{settings.second_order_from_epoch}",
                flush=True,
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        assert self.rate is not None
        if self.model.set_epoch(epoch):
            self.model.make_train_function(force=True)
        settings = self.model.settings
        if settings.cosine_annealing:
            epochs = self.annealing_epochs or self.epochs or self.params["epochs"]
            rate = cosine_rate(epoch, epochs, self.rate, settings.minimum_rate)
            self.model.optimizer.learning_rate = rate
