"""The outer loop over meta-batches of tasks, whatever it is that a task is learned with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.checks import check_choice, check_range, check_type
from tf_mamlpp.layers.inexact import name_missing_derivatives
from tf_mamlpp.meta.batched_map import batched_map
from tf_mamlpp.meta.functional_model import FunctionalModel, with_task_seeds
from tf_mamlpp.meta.heads import classes_of
from tf_mamlpp.meta.loss_scaling import OUTER_SCALE, loss_scale, scaled_gradient
from tf_mamlpp.meta.model_checks import check_backend
from tf_mamlpp.meta.replicas import Share, share_of
from tf_mamlpp.meta.settings import QUERY_STATISTICS, Learner
from tf_mamlpp.meta.task import Loss, Task, Tensors
from tf_mamlpp.meta.task_data import QUERY, SUPPORT, are_tasks, as_tasks
from tf_mamlpp.meta.task_map import task_map
from tf_mamlpp.meta.task_trainer import TaskTrainer
from tf_mamlpp.runtime import cores


class EpisodicModel(TaskTrainer):
    """Meta-trains on meta-batches of tasks through Keras's `fit`; what it does with one task is the subclass's.

    `MetaLearner` and `PrototypicalNetworks` are its subclasses.  Each makes its variables, calls `_finish` at the end
    of its `__init__`, and has the methods `task_loss`, `task_curve` and `_agreement`.

    Args:
        settings: every switch; kept as the attribute `settings`.
        way: classes of a task; None for regression.
        name: of the Keras model.

    Attributes:
        model: the Keras model that is meta-trained, converted by `convert_normalization`.
        functional_model: its passes as a pure function.
        inner_steps, query_statistics, evaluation_statistics: as in `settings`, the last one resolved.

    Example:
        >>> import tf_mamlpp as mp
        >>> issubclass(mp.MetaLearner, EpisodicModel) and issubclass(mp.PrototypicalNetworks, EpisodicModel)
        True
    """

    model: keras.Model
    _trains_on: tuple[str, ...] = (*SUPPORT, *QUERY)

    def __init__(self, settings: Learner, *, way: int | None, inner_steps: int, name: str):
        check_backend()
        super().__init__(settings, name)
        settings.check_way(way)
        self.way, self.inner_steps = way, inner_steps
        self.query_statistics = settings.query_statistics
        self.evaluation_statistics = settings.evaluation_statistics or settings.query_statistics
        self._tasks_at_once = settings.parallel_tasks or cores()

    def _finish(self, functional_model: FunctionalModel, loss: str | Loss | None = None, metric: Any = None) -> None:
        """Decides what outputs mean and what is measured; the variables are all there."""
        self.functional_model = functional_model
        if "support" in (self.query_statistics, self.evaluation_statistics):
            functional_model.check_support_statistics()
        self._float = self.model.trainable_variables[0].dtype
        self._given = loss, metric
        self._decide(loss, metric, may_wait=True)
        self.set_epoch(0)
        self.built = True

    # --- What a subclass does with one task ----------------------------------------------------------

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, list[tf.Tensor]]:
        """The outer loss of one task.

        Args:
            task: tensors without the tasks axis.
            state: the model's non-trainable variables.

        Returns:
            The scalar loss, the new state, and the last query pass's loss and metrics.
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

    def epoch_record(self) -> dict[str, Any]:
        """What a run records of the learner after an epoch, beside its metrics."""
        return {}

    @property
    def loss_scale(self) -> tf.Tensor | float | None:
        """What the outer loss is multiplied with while gradients are computed, which come out as if it were not."""
        if getattr(self, "optimizer", None) is not None:
            return loss_scale(self.optimizer)
        return OUTER_SCALE if self.functional_model.inner_scale else None

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
            the means of the outer `meta_loss`, the last step's `loss` and its metrics.
        """
        sources = [v.value for v in self.trainable_variables]
        if tf.distribute.in_cross_replica_context():  # in a strategy's scope: reads are of the first replica
            sources = [tf.distribute.get_strategy().experimental_local_results(v)[0] for v in sources]
        state, known = self.functional_model.state, self._known(tasks)

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[Any, ...]:
            index, task = indexed if share is None else (share.first + indexed[0], indexed[1])
            with name_missing_derivatives():
                with tf.GradientTape() as tape:
                    total, new_state, loss, measured = self.task_loss({**task, **known}, with_task_seeds(state, index))
                zero = tf.UnconnectedGradients.ZERO
                gradients = scaled_gradient(tape, total, sources, self.loss_scale, unconnected_gradients=zero)
            return gradients, with_task_seeds(new_state, -index), total, loss, measured

        scalar = tf.TensorSpec((), sources[0].dtype)
        signature = (
            [tf.TensorSpec(v.shape, v.dtype) for v in sources],
            [tf.TensorSpec(s.shape, s.dtype) for s in state],
            *(scalar, scalar, [scalar] * len(self.reading.metrics)),
        )
        gradients, states, *numbers, measured = self._map(one, tasks, signature, self.settings.batched_tasks)

        def mean(values: tf.Tensor) -> tf.Tensor:
            here = tf.reduce_mean(values, 0)
            return here if share is None else share.weighted(here)

        meta_loss, loss = map(mean, numbers)
        # As a mean of differences, which leaves alone, to the last bit, what no task changes: frozen weights.
        new_state = [
            before + mean(after - before) if after.dtype.is_floating else after[-1]
            for before, after in zip(state, states, strict=True)
        ]
        metrics = {"meta_loss": meta_loss, "loss": loss}
        metrics |= {metric.name: mean(values) for metric, values in zip(self.reading.metrics, measured, strict=True)}
        return [mean(g) for g in gradients], new_state, metrics

    def _map(self, function: Callable[[Any], Any], tasks: Task, signature: Any, batched: bool = False) -> Any:
        """`function` of each task's number and tensors: `parallel_tasks` at once, or all as one batch (`batched`)."""
        elements = (tf.range(tf.shape(tasks["support_labels"])[0]), dict(tasks))
        if not batched:
            return task_map(function, elements, signature, self._tasks_at_once)
        return batched_map(function, elements)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One outer update: reduce over replicas, clip, apply.

        Its logs are means over the epoch so far, but for those of `run_files.UPDATE_LOGS`, which are this update's:
        `update_loss` (the outer loss), `gradient_norm` (of the meta-gradient, before it is clipped) and, with
        `gradient_clip`, `clipped` (the fraction of its entries that were).
        """
        tasks = as_tasks(data, self._trains_on)
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
            self._means.by_name[name].update_state(value, 1 / replicas)
        return {**self._means.results(metrics), **latest}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Last step's loss and metrics, and the first metric after 0..N steps; writes no variable but its own means."""
        tasks = as_tasks(data)
        known = self._known(tasks)

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
            labels = indexed[1]["query_labels"]
            curve, added = self.task_curve({**indexed[1], **known}, self.inner_steps, self.evaluation_statistics)
            loss = self.functional_model.total_loss(labels, curve[-1], added)
            first = [self.reading.means[0](labels, outputs) for outputs in tf.unstack(curve)]
            return loss, tf.stack(first), [metric(labels, curve[-1]) for metric in self.reading.means[1:]]

        scalar, points = tf.TensorSpec((), self._float), tf.TensorSpec((self.inner_steps + 1,), self._float)
        signature = (scalar, points, [scalar] * (len(self.reading.metrics) - 1))
        share = share_of(tasks)
        found = self._map(one, share.tasks if share else tasks, signature, self.settings.batched_tasks)
        means = self._means.by_name
        if share:
            found = tf.nest.map_structure(lambda values: values[: share.count], found)
            # Each replica counts as many tasks, so that the mean of their results is that over all tasks.
            for mean in means.values():
                mean.update_state(0.0, share.even - tf.cast(share.count, tf.float32))
        losses, curves, others = found
        names = [self.step_metric(k) for k in range(self.inner_steps + 1)]
        for name, values in zip(names, tf.unstack(curves, axis=1), strict=True):
            means[name].update_state(values)
        for metric, values in zip(self.reading.metrics, [curves[:, -1], *others], strict=True):
            means[metric.name].update_state(values)
        means["loss"].update_state(losses)
        return self._means.results(["loss", *(metric.name for metric in self.reading.metrics), *names])

    @tf.autograph.experimental.do_not_convert
    def predict_step(self, data: Any) -> tf.Tensor:
        """What the adapted model answers to every task's query set; of what is no tasks, the model's own outputs."""
        if not are_tasks(data):
            return super().predict_step(data)
        tasks = as_tasks(data, (*SUPPORT, QUERY[0]))
        share = share_of(tasks)
        answers = self.output_kind.to_probabilities(self.curves(share.tasks if share else tasks)[:, -1])
        return answers[: share.count] if share else answers

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
        steps, statistics = self._use(inner_steps, query_statistics or self.evaluation_statistics)
        tasks = as_tasks(tasks, (*SUPPORT, QUERY[0]))
        signature, known = tf.TensorSpec(None, self._float), self._known(tasks)

        def one(indexed: tuple[tf.Tensor, Task]) -> tf.Tensor:
            return self.task_predictions({**indexed[1], **known}, steps, statistics)

        return self._map(one, tasks, signature)

    def _known(self, tasks: Task) -> dict[str, tf.Tensor]:
        """What all tasks of a meta-batch have in common, beside their own tensors: how many classes."""
        if not self.any_way:
            return {}
        return {"way": classes_of(tf.convert_to_tensor(tasks["support_labels"]), self.output_kind.one_hot)}

    def _use(self, inner_steps: int | None, statistics: str) -> tuple[int, str]:
        """Steps and statistics that a caller wants, checked."""
        check_choice("query_statistics", statistics, QUERY_STATISTICS)
        if inner_steps is None:
            return self.inner_steps, statistics
        steps = check_type("inner_steps", inner_steps, int)
        check_range("inner_steps", steps, zero=True)
        return steps, statistics
