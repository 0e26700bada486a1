"""The outer loop over meta-batches of tasks, whatever it is that a task is learned with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.inexact import name_missing_derivatives
from tf_mamlpp.meta.batched_map import batched_map
from tf_mamlpp.meta.functional_model import FunctionalModel, with_task_seeds
from tf_mamlpp.meta.loss_scaling import OUTER_SCALE, loss_scale, scaled_gradient, scaling_optimizer
from tf_mamlpp.meta.losses import mean_of, metric_function, metric_name
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.replicas import Share, share_of
from tf_mamlpp.meta.saving import SavedWhole
from tf_mamlpp.meta.schedules import Schedules, has_schedule
from tf_mamlpp.meta.settings import Learner
from tf_mamlpp.meta.task import Loss, Task, Tensors
from tf_mamlpp.meta.task_map import task_map
from tf_mamlpp.runtime import cores
from tf_mamlpp.workers import Workers, step_function


class EpisodicModel(SavedWhole):
    """Meta-trains on meta-batches of tasks through Keras's `fit`; what it does with one task is the subclass's.

    `MetaLearner` and `PrototypicalNetworks` are its subclasses.  Each makes its variables, calls `_finish` at the end
    of its `__init__`, and has the methods `task_loss` and `task_curve`.

    Args:
        settings: every switch; kept as the attribute `settings`.
        way: classes of a task; None for regression.
        name: of the Keras model.

    Attributes:
        model: the Keras model that is meta-trained, converted by `convert_normalization`.
        functional_model: its passes as a pure function.
        inner_steps, query_statistics, evaluation_statistics: as in `settings`, the last one resolved.
        metric_name: `accuracy`, or the name of the metric that was given.
        output_kind: whether outputs are logits, probabilities or values.
        epochs_done: trained since `compile`, by all calls of `fit`; the schedules go on from there.
        epochs_before: done before the current `fit`, which counts its own from 0.
        annealing_epochs: until cosine annealing ends, once a `fit` has said so.
        rate_factor: by which a callback (`ReduceLROnPlateau`) has changed the annealed rate.

    Example:
        >>> import tf_mamlpp as mp
        >>> issubclass(mp.MetaLearner, EpisodicModel) and issubclass(mp.PrototypicalNetworks, EpisodicModel)
        True
    """

    model: keras.Model
    functional_model: FunctionalModel
    annealing_epochs: int | None
    train_function: Any  # Keras's own, which it does not annotate
    test_function: Any

    def __init__(self, settings: Learner, *, way: int | None, inner_steps: int, name: str):
        super().__init__(name=name, autocast=False)
        settings.check_way(way)
        self.settings, self.way, self.inner_steps = settings, way, inner_steps
        self.query_statistics = settings.query_statistics
        self.evaluation_statistics = settings.evaluation_statistics or settings.query_statistics
        self._tasks_at_once = settings.parallel_tasks or cores()
        self._traced = SimpleNamespace(train_functions={})  # by phase; Keras would track a dict
        self._start_anew()

    def _start_anew(self) -> None:
        self.epochs_done = self.epochs_before = 0
        self.annealing_epochs, self.rate_factor = None, 1.0

    def _finish(
        self,
        functional_model: FunctionalModel,
        kind: OutputKind,
        metric: str | Loss | None = None,
        loss: str | Loss | None = None,
    ) -> None:
        """Makes the metrics; the variables are all there."""
        self.functional_model, self.output_kind = functional_model, kind
        if "support" in (self.query_statistics, self.evaluation_statistics):
            functional_model.check_support_statistics()
        self._float = self.model.trainable_variables[0].dtype
        self.metric_function = metric_function(metric, kind, functional_model.loss)
        self._mean_metric = mean_of(self.metric_function, self._float)
        self.metric_name = metric_name(metric, kind, loss)
        names = ["meta_loss", "loss", self.metric_name, *map(self.step_metric, range(self.inner_steps + 1))]
        self._means = {n: keras.metrics.Mean(name=n) for n in names}
        self.set_epoch(0)
        self.built = True

    @property
    def classifies(self) -> bool:
        """Whether outputs are of classes, and not the values of a regression."""
        return not self.output_kind.values

    # --- What a subclass does with one task ----------------------------------------------------------

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, tf.Tensor]:
        """The outer loss of one task.

        Args:
            task: tensors without the tasks axis.
            state: the model's non-trainable variables.

        Returns:
            The scalar loss, the new state, and the last query pass's loss and metric.
        """
        raise NotImplementedError

    def task_curve(self, task: Task, steps: int, statistics: str) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Query outputs before adaptation and after every inner step, `[steps + 1, Q, outputs]`; writes nothing.

        Also what the last pass adds to its loss, see `FunctionalModel.outputs`.
        """
        raise NotImplementedError

    def task_predictions(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """One task's part of `curves`: `task_curve`, unless a subclass averages several."""
        return self.task_curve(task, steps, statistics)[0]

    def set_epoch(self, epoch: int) -> bool:
        """Sets what changes in `epoch` (0-based).

        Returns:
            Whether the training graph changed, so that `make_train_function` is due.
        """
        return False

    @property
    def phase(self) -> Hashable:
        """What the training graph depends on, as `set_epoch` has set it."""
        return None

    def epoch_record(self) -> dict[str, Any]:
        """What a run records of the learner after an epoch, beside its metrics."""
        return {}

    # --- Through Keras --------------------------------------------------------------------------------

    def fit(self, *args: Any, callbacks: Sequence[keras.callbacks.Callback] | None = None, **kwargs: Any) -> Any:
        """`keras.Model.fit`, with the schedules applied (a `schedules.Schedules` of your own takes precedence).

        Called again, it goes on where the last call ended: loss weights, derivative order and the outer rate follow the
        epochs of all calls since `compile`.  With `initial_epoch` the epochs are those that it gives.
        """
        self.epochs_before = 0 if "initial_epoch" in kwargs else self.epochs_done
        callbacks = list(callbacks or ())
        if not any(isinstance(c, Schedules) for c in callbacks):
            callbacks.insert(0, Schedules())
        kwargs.setdefault("shuffle", False)
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """`keras.Model.compile`; the loss and the metric are the constructor's, and XLA is off unless asked for."""
        unused = [name for name in ("loss", "metrics", "weighted_metrics", "loss_weights") if kwargs.get(name)]
        if unused:
            raise UserError(f"compile({unused[0]}=...) has no use here: give loss and metric to {type(self).__name__}")
        kwargs.setdefault("jit_compile", False)
        if kwargs.get("auto_scale_loss", True):
            optimizer = scaling_optimizer(optimizer, self.model)
        super().compile(optimizer=optimizer, **kwargs)
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
    def loss_scale(self) -> tf.Tensor | float | None:
        """What the outer loss is multiplied with while gradients are computed, which come out as if it were not."""
        if getattr(self, "optimizer", None) is not None:
            return loss_scale(self.optimizer)
        return OUTER_SCALE if self.functional_model.inner_scale else None

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

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Outputs of the model as it is, before it has seen a task."""
        return self.model(images, training=training)

    # --- A meta-batch ------------------------------------------------------------------------------

    @tf.autograph.experimental.do_not_convert  # it has nothing to convert, which takes seconds
    def meta_gradient(
        self, tasks: Task, share: Share | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], dict[str, tf.Tensor]]:
        """Mean over tasks of the meta-gradient, each task's taken inside the map so that memory stays one task's.

        Args:
            tasks: a meta-batch.
            share: of this replica, by which means over its tasks are weighted; None where all tasks are here.

        Returns:
            The gradient for each of `trainable_variables`, the new non-trainable variables of `model`, and
            the means of the outer `meta_loss`, the last step's `loss` and its metric.
        """
        sources = [v.value for v in self.trainable_variables]
        if tf.distribute.in_cross_replica_context():  # in a strategy's scope: reads are of the first replica
            sources = [tf.distribute.get_strategy().experimental_local_results(v)[0] for v in sources]
        state = self.functional_model.state

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[Any, ...]:
            index, task = indexed if share is None else (share.first + indexed[0], indexed[1])
            with name_missing_derivatives():
                with tf.GradientTape() as tape:
                    total, new_state, loss, metric = self.task_loss(task, with_task_seeds(state, index))
                zero = tf.UnconnectedGradients.ZERO
                gradients = scaled_gradient(tape, total, sources, self.loss_scale, unconnected_gradients=zero)
            return gradients, with_task_seeds(new_state, -index), total, loss, metric

        scalar = tf.TensorSpec((), sources[0].dtype)
        signature = (
            [tf.TensorSpec(v.shape, v.dtype) for v in sources],
            [tf.TensorSpec(s.shape, s.dtype) for s in state],
            *(scalar, scalar, scalar),
        )
        gradients, states, *numbers = self._map(one, tasks, signature, self.settings.batched_tasks)

        def mean(values: tf.Tensor) -> tf.Tensor:
            here = tf.reduce_mean(values, 0)
            return here if share is None else share.weighted(here)

        meta_loss, loss, metric = map(mean, numbers)
        # As a mean of differences, which leaves alone, to the last bit, what no task changes: frozen weights.
        new_state = [
            before + mean(after - before) if after.dtype.is_floating else after[-1]
            for before, after in zip(state, states, strict=True)
        ]
        metrics = {"meta_loss": meta_loss, "loss": loss, self.metric_name: metric}
        return [mean(g) for g in gradients], new_state, metrics

    def _map(self, function: Callable[[Any], Any], tasks: Task, signature: Any, batched: bool = False) -> Any:
        """`function` of each task's number and tensors: `parallel_tasks` at once, or all as one batch (`batched`)."""
        elements = (tf.range(tf.shape(tasks["support_labels"])[0]), dict(tasks))
        if not batched:
            return task_map(function, elements, signature, self._tasks_at_once)
        return batched_map(function, elements)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, tasks: Task) -> dict[str, tf.Tensor]:
        """One outer update: reduce over replicas, clip, apply.

        Its logs are means over the epoch so far, but for those of `run_files.UPDATE_LOGS`, which are this update's:
        `update_loss` (the outer loss), `gradient_norm` (of the meta-gradient, before it is clipped) and, with
        `gradient_clip`, `clipped` (the fraction of its entries that were).
        """
        share = share_of(tasks)
        gradients, state, metrics = self.meta_gradient(share.tasks if share else tasks, share)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        latest = {"update_loss": metrics["meta_loss"], "gradient_norm": tf.linalg.global_norm(gradients)}
        clip, found = self.settings.gradient_clip, gradients
        if clip:
            beyond = tf.concat([tf.reshape(tf.abs(g) > clip, [-1]) for g in gradients], 0)
            latest["clipped"] = tf.reduce_mean(tf.cast(beyond, tf.float32))
            gradients = [tf.clip_by_value(g, -clip, clip) for g in found]
        scale = self.loss_scale
        if scale is not None:  # the optimizer divides by it, and skips what is not finite, clipped or not
            pairs = zip(gradients, found, strict=True)
            gradients = [tf.where(tf.math.is_finite(f), g * tf.cast(scale, g.dtype), f) for g, f in pairs]
        # Keras's optimizers sum over replicas what is already the mean of all of them.
        self.optimizer.apply([g / replicas for g in gradients], self.trainable_variables)
        for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
            variable.assign(value)
        for name, value in metrics.items():
            # Weights of replicas add up to 1: an epoch may go on with another number of them.
            self._means[name].update_state(value, 1 / replicas)
        return {**{name: self._means[name].result() for name in metrics}, **latest}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, tasks: Task) -> dict[str, tf.Tensor]:
        """Last step's loss, and the metric after 0..N inner steps; writes no variable but the metrics' own."""

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[tf.Tensor, tf.Tensor]:
            labels = indexed[1]["query_labels"]
            curve, added = self.task_curve(indexed[1], self.inner_steps, self.evaluation_statistics)
            loss = self.functional_model.total_loss(labels, curve[-1], added)
            return loss, tf.stack([self._mean_metric(labels, outputs) for outputs in tf.unstack(curve)])

        signature = (tf.TensorSpec((), self._float), tf.TensorSpec((self.inner_steps + 1,), self._float))
        share = share_of(tasks)
        losses, metrics = self._map(one, share.tasks if share else tasks, signature, self.settings.batched_tasks)
        if share:
            losses, metrics = losses[: share.count], metrics[: share.count]
            # Each replica counts as many tasks, so that the mean of their results is that over all tasks.
            for mean in self._means.values():
                mean.update_state(0.0, share.even - tf.cast(share.count, tf.float32))
        names = [self.step_metric(k) for k in range(self.inner_steps + 1)]
        for name, values in zip(names, tf.unstack(metrics, axis=1), strict=True):
            self._means[name].update_state(values)
        self._means[self.metric_name].update_state(metrics[:, -1])
        self._means["loss"].update_state(losses)
        return {name: self._means[name].result() for name in ("loss", self.metric_name, *names)}

    @tf.autograph.experimental.do_not_convert
    def curves(self, tasks: Task, inner_steps: int | None = None, query_statistics: str | None = None) -> tf.Tensor:
        """Query outputs of every task after 0..inner_steps steps.

        Args:
            tasks: a meta-batch.
            inner_steps: None for as many as trained; steps past those reuse the last rates and batch-norm row.
            query_statistics: None for `evaluation_statistics`.

        Returns:
            `[tasks, inner_steps + 1, Q, outputs]`.
        """
        steps = self.inner_steps if inner_steps is None else inner_steps
        statistics = query_statistics or self.evaluation_statistics
        signature = tf.TensorSpec(None, self._float)
        return self._map(lambda indexed: self.task_predictions(indexed[1], steps, statistics), tasks, signature)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    @staticmethod
    def step_metric(k: int) -> str:
        """The name under which the metric after `k` inner steps is logged."""
        return f"step_{k}"
