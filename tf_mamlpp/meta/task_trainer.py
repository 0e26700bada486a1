"""How Keras drives a learner: `compile`, `fit` and its kin on data of tasks, and the functions that they run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.epoch_means import EpochMeans
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.label_range import plain_label_errors
from tf_mamlpp.meta.loss_scaling import scaling_optimizer
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.reading import Reading
from tf_mamlpp.meta.saving import SavedWhole
from tf_mamlpp.meta.schedules import Schedules, has_schedule
from tf_mamlpp.meta.settings import Learner
from tf_mamlpp.meta.task import Loss
from tf_mamlpp.meta.task_data import are_tasks, as_tasks, keras_data
from tf_mamlpp.workers import Workers, step_function


class TaskTrainer(SavedWhole):
    """The part of a learner that is Keras's: how it is compiled, what it takes as data, when it is traced.

    `EpisodicModel` is its subclass, and does the steps.

    Args:
        settings: every switch; kept as the attribute `settings`.
        name: of the Keras model.

    Attributes:
        any_way: whether tasks may have other numbers of classes than `way`, as many as their support labels tell; those
            of a meta-batch have one number.
        reading: what outputs are, the loss, and what is measured of each task.
        epochs_done: trained since `compile`, by all calls of `fit`; the schedules go on from there.
        epochs_before: done before the current `fit`, which counts its own from 0.
        annealing_epochs: until cosine annealing ends, once a `fit` has said so.
        rate_factor: by which a callback (`ReduceLROnPlateau`) has changed the annealed rate.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((4,), 3), way=3, inner_steps=1)
        >>> learner.compile("adam", metrics=["accuracy", "sparse_categorical_crossentropy"])
        >>> learner.metrics_names
        ['loss', 'accuracy', 'sparse_categorical_crossentropy', 'step_0', 'step_1']
    """

    functional_model: FunctionalModel
    way: int | None
    any_way: bool = False
    inner_steps: int
    annealing_epochs: int | None
    train_function: Any  # Keras's own, which it does not annotate
    test_function: Any
    reading: Reading
    _means: EpochMeans
    _float: str
    _given: tuple[str | Loss | None, Any]

    def __init__(self, settings: Learner, name: str):
        super().__init__(name=name, autocast=False)
        self.settings = settings
        self._traced = SimpleNamespace(train_functions={})  # by phase; Keras would track a dict
        self._start_anew()

    def _start_anew(self) -> None:
        self.epochs_done = self.epochs_before = 0
        self.annealing_epochs, self.rate_factor = None, 1.0

    @property
    def phase(self) -> Hashable:
        """What the training graph depends on, as `set_epoch` has set it."""
        return None

    # --- What outputs mean -------------------------------------------------------------------------------

    def _agreement(self, loss: str | Loss | None) -> tuple[OutputKind, str | Loss]:
        """What outputs are with this loss, and the loss that reads them so."""
        raise NotImplementedError

    def _read_outputs(self, loss: str | Loss | None, metrics: Any) -> None:
        wanted = self._given[0] if loss is None else loss, self._given[1] if metrics is None else metrics
        if wanted != self._decided or not self.reading.is_decided:
            self._decide(*wanted)

    def _decide(self, loss: str | Loss | None, metrics: Any, may_wait: bool = False) -> None:
        """Sets what depends on loss and metrics; `may_wait` leaves a loss that is not given to `compile`."""
        try:
            kind, agreed = self._agreement(loss)
        except UserError as error:
            if loss is not None or not may_wait:
                raise
            self.reading = Reading.undecided(error, metrics, self._float)
        else:
            self.reading = Reading.of(kind, agreed, metrics, self.way, self._float, self.any_way)
        self._decided = loss, metrics
        self.functional_model.loss = self.reading.loss
        first, steps = self.reading.metrics[0], map(self.step_metric, range(self.inner_steps + 1))
        measured = {metric.name: metric.direction for metric in self.reading.metrics}
        known = {"meta_loss": "down", "loss": "down", **measured, **dict.fromkeys(steps, first.direction)}
        self._means = EpochMeans(known)

    @property
    def output_kind(self) -> OutputKind:
        """Whether outputs are logits, probabilities or values."""
        return self.reading.kind

    @property
    def metric_name(self) -> str:
        """`accuracy`, or the name of the metric that was given; of several, the first."""
        return self.reading.metrics[0].name

    @property
    def metric_function(self) -> Loss:
        """The first metric, of one task."""
        return self.reading.metrics[0].function

    @property
    def classifies(self) -> bool:
        """Whether outputs are of classes, and not the values of a regression."""
        return not self.output_kind.values

    @staticmethod
    def step_metric(k: int) -> str:
        """The name under which the metric after `k` inner steps is logged."""
        return f"step_{k}"

    # --- compile -------------------------------------------------------------------------------------

    def compile(
        self, optimizer: Any = "adam", loss: str | Loss | None = None, *, metrics: Any = None, **kwargs: Any
    ) -> None:
        """`keras.Model.compile`; XLA is off unless asked for.

        Args:
            optimizer: of the outer loop.
            loss: of both loops, in place of the constructor's.
            metrics: what is measured of each task, in place of the constructor's: a list of names, functions and
                objects, as in Keras.  The mean over tasks is reported.  The first one also after each inner step.
            **kwargs: `jit_compile`, `run_eagerly`, `steps_per_execution`, `auto_scale_loss`.

        Raises:
            UserError: loss or metrics do not fit the model, or an argument has no use.
        """
        unused = [name for name in ("weighted_metrics", "loss_weights") if kwargs.get(name)]
        if unused:
            raise UserError(
                f"compile({unused[0]}=...) has no use: a learner has one loss, and examples have no weights"
            )
        for name in ("weighted_metrics", "loss_weights"):
            kwargs.pop(name, None)
        self._read_outputs(loss, metrics)
        kwargs.setdefault("jit_compile", False)
        if kwargs.get("auto_scale_loss", True):
            optimizer = scaling_optimizer(optimizer, self.model)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        self._start_anew()
        if self.settings.cosine_annealing and has_schedule(self.optimizer):
            raise UserError(
                "cosine_annealing and the optimizer's LearningRateSchedule contradict each other: give the optimizer a "
                "number as learning_rate, or set cosine_annealing=False"
            )
        self.outer_rate = float(self.optimizer.learning_rate.numpy())
        # Variables made inside the train function would make it trace twice.
        self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._means.as_keras()

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        return self._means.variables

    @property
    def metrics_names(self) -> list[str]:
        """Of what `evaluate` returns, in its order."""
        return [name for name in self._means.by_name if name != "meta_loss"]

    @property
    def trainable(self) -> bool:
        return True

    @trainable.setter
    def trainable(self, value: bool) -> None:
        raise UserError(
            f"learner.trainable = {value} has no use: which weights are learned is said by layers of the model, before "
            "it is given to the learner"
        )

    # --- Data ------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        validation_data: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`keras.Model.fit`, with the schedules applied (a `schedules.Schedules` of your own takes precedence).

        Called again, it goes on where the last call ended: loss weights, derivative order and the outer rate follow the
        epochs of all calls since `compile`.  With `initial_epoch` the epochs are those that it gives.

        Args:
            x: meta-batches, in any form that Keras knows: a `tf.data.Dataset`, a `PyDataset`, a generator, a list of
                dicts; or all tasks in one dict of arrays, cut into meta-batches of `batch_size`.
            y: None; the labels are part of the tasks.
            *args: as for Keras.
            callbacks: as for Keras.
            validation_data: as `x`.
            **kwargs: as for Keras.
        """
        self.epochs_before = 0 if "initial_epoch" in kwargs else self.epochs_done
        callbacks = list(callbacks or ())
        if not any(isinstance(c, Schedules) for c in callbacks):
            callbacks.insert(0, Schedules())
        kwargs.setdefault("shuffle", False)
        x, validation_data = self._data(x, y), self._data(validation_data)
        with plain_label_errors(self.reading.labels):
            return super().fit(x, None, *args, callbacks=callbacks, validation_data=validation_data, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate` on tasks, in the forms that `fit` takes."""
        x = self._data(x, y)
        with plain_label_errors(self.reading.labels):
            return super().evaluate(x, None, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`: adapts to each task, then answers its query set.

        Args:
            x: tasks in the forms that `fit` takes (`query_y` is not needed); or what the model itself takes, whose
                outputs before adaptation are then returned, as of any Keras model.
            *args: as for Keras.
            **kwargs: as for Keras.

        Returns:
            Probabilities `[tasks, Q, way]`; of a regression its outputs.
        """
        x = self._data(x)
        with plain_label_errors(self.reading.labels):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.train_on_batch` on one meta-batch."""
        return super().train_on_batch(self._batch(x, y), None, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.test_on_batch` on one meta-batch."""
        return super().test_on_batch(self._batch(x, y), None, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """`keras.Model.predict_on_batch` on one meta-batch; see `predict`."""
        return super().predict_on_batch(self._batch(x))

    def _data(self, x: Any, y: Any = None) -> Any:
        if y is not None:
            raise UserError("y has no use: labels are part of the tasks, as support_y and query_y")
        return keras_data(x, self.reading.labels.check_tasks)

    def _batch(self, x: Any, y: Any = None) -> Any:
        x = self._data(x, y)
        return tf.nest.map_structure(tf.convert_to_tensor, dict(as_tasks(x, ()))) if are_tasks(x) else x

    # --- Functions ----------------------------------------------------------------------------------------

    def make_train_function(self, force: bool = False) -> Any:
        """The function of the current phase: one for each, so that none is traced twice."""
        functions, phase = self._traced.train_functions, self.phase
        if self.train_function is None:  # compiled since
            functions.clear()
        if force or phase not in functions:
            if Workers(self.distribute_strategy).alone:
                super().make_train_function(force=True)
            else:
                self.train_function = self._step_function(self.train_step)
            functions[phase] = self.train_function
        self.train_function = functions[phase]
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        if Workers(self.distribute_strategy).alone:
            return super().make_test_function(force)
        if self.test_function is None or force:
            self.test_function = self._step_function(self.test_step)
        return self.test_function

    def _step_function(self, step: Callable[..., Any]) -> Callable[..., Any]:
        if self.steps_per_execution != 1:
            raise UserError("steps_per_execution is 1 with several workers")
        return step_function(self.distribute_strategy, step, jit_compile=self.jit_compile)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Everything is built.  Keras would draw a meta-batch for it, and fail with several workers.
        pass
