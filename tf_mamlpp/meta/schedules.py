"""What changes from epoch to epoch: pure functions of the epoch (0-based), and the callback that applies them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras

from tf_mamlpp.errors import UserError
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


@keras.saving.register_keras_serializable("tf_mamlpp")
class CosineAnnealing(keras.optimizers.schedules.LearningRateSchedule):
    """`cosine_rate` as a Keras schedule, for an optimizer: another way to have it than `cosine_annealing`.

    Args:
        rate: of epoch 0.
        epochs: until the minimum.
        updates: of an epoch, in which the rate stays.
        minimum_rate: that is approached at the end.
        name: of the schedule.

    Example:
        >>> optimizer = keras.optimizers.Adam(CosineAnnealing(1e-3, epochs=4, updates=500, minimum_rate=0.0))
        >>> [round(float(CosineAnnealing(1e-3, 4, 500, 0.0)(step)), 6) for step in (0, 499, 500, 1500, 9000)]
        [0.001, 0.001, 0.000854, 0.000146, 0.0]
    """

    def __init__(self, rate: float, epochs: int, updates: int, minimum_rate: float = 1e-5, name: str | None = None):
        super().__init__()
        self.rate, self.epochs, self.updates, self.minimum_rate, self.name = rate, epochs, updates, minimum_rate, name

    def __call__(self, step: Any) -> Any:
        epoch = keras.ops.floor_divide(keras.ops.cast(step, "int32"), self.updates)
        angle = math.pi * keras.ops.cast(keras.ops.minimum(epoch, self.epochs), "float32") / self.epochs
        return self.minimum_rate + (self.rate - self.minimum_rate) * (1 + keras.ops.cos(angle)) / 2

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("rate", "epochs", "updates", "minimum_rate", "name")}


def has_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer's learning rate is a schedule, which nobody can set.

    Example:
        >>> has_schedule(keras.optimizers.SGD(CosineAnnealing(0.1, 4, 500))), has_schedule(keras.optimizers.SGD(0.1))
        (True, False)
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    return isinstance(inner._learning_rate, keras.optimizers.schedules.LearningRateSchedule)


class Schedules(keras.callbacks.Callback):
    """Sets what changes from epoch to epoch: loss weights, derivative order and the outer rate.

    `MetaLearner.fit` adds one by itself.  Give your own to a run with cosine annealing that `fit` does in parts.  If
    another callback changes the rate while it is annealed (`ReduceLROnPlateau`), it stays changed by the same factor.

    Args:
        epochs: of the whole run; None for those of the first `fit`.
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
        settings, learner = self.model.settings, self.model
        self._set_rate: float | None = None
        epochs = self.epochs or self.params["epochs"]
        if self.rate is None:
            self.rate = learner.outer_rate
        is_first = not learner.epochs_before
        if is_first and settings.derivative_order_annealing and settings.second_order_from_epoch >= epochs:
            print(
                f"note: all {epochs} epochs have first-order gradients, second_order_from_epoch is "
                f"{settings.second_order_from_epoch}",
                flush=True,
            )
        if settings.cosine_annealing:
            learner.annealing_epochs = self._annealing_end()

    def _annealing_end(self) -> int:
        """The epoch at which cosine annealing ends."""
        learner = self.model
        given = self.annealing_epochs or self.epochs
        if given or not learner.epochs_before or not learner.annealing_epochs:
            return given or learner.epochs_before + self.params["epochs"]
        if learner.epochs_before >= learner.annealing_epochs:
            raise UserError(
                f"cosine annealing ended with epoch {learner.annealing_epochs}: for a run that fit does in parts give "
                "each part callbacks=[tf_mamlpp.Schedules(epochs=...)] with the epochs of all; compile starts anew"
            )
        return learner.annealing_epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        assert self.rate is not None
        epoch += self.model.epochs_before
        if self.model.set_epoch(epoch):
            self.model.make_train_function()
        if self.model.settings.cosine_annealing:
            self._anneal(epoch)

    def _anneal(self, epoch: int) -> None:
        learner, optimizer = self.model, self.model.optimizer
        now = float(optimizer.learning_rate.numpy())
        if self._set_rate and now != self._set_rate:
            learner.rate_factor *= now / self._set_rate
        assert self.rate is not None
        rate = cosine_rate(epoch, learner.annealing_epochs, self.rate, learner.settings.minimum_rate)
        optimizer.learning_rate = learner.rate_factor * rate
        self._set_rate = float(optimizer.learning_rate.numpy())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.epochs_done = self.model.epochs_before + epoch + 1
