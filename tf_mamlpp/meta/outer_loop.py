"""The outer loop over meta-batches of tasks, whatever it is that a task is learned with."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta import schedules
from tf_mamlpp.meta.functional_model import with_task_seeds
from tf_mamlpp.meta.losses import accuracy, mean_of, metric_function
from tf_mamlpp.meta.settings import QUERY_STATISTICS
from tf_mamlpp.meta.task import Loss, Task, Tensors
from tf_mamlpp.runtime import cores
from tf_mamlpp.workers import Workers, step_function


def check_built(model: keras.Model) -> None:
    """Refuses a model that has no weights to learn."""
    if not model.built or not model.weights:
        raise UserError(f"model '{model.name}' has no weights yet: give it an Input, or call it once on a batch")
    if not model.trainable_variables:
        raise UserError(f"model '{model.name}' is frozen: there is nothing to learn")


class EpisodicModel(keras.Model):
    """Meta-trains on meta-batches of tasks through Keras's `fit`; what it does with one task is the subclass's.

    A subclass has the attributes `model` (converted by `convert_normalization`) and `model_state` (its
    non-trainable values), the methods `task_loss` and `task_curve`, and calls `_finish` at the end of its `__init__`.

    Args: see `MetaLearner`.
    """

    model: keras.Model
    train_function: Any
    test_function: Any
    inner_rates: Any = None
    derivative_order_annealing = False
    batched_tasks = False

    def __init__(
        self,
        *,
        way: int | None,
        inner_steps: int,
        query_statistics: str,
        evaluation_statistics: str | None,
        cosine_annealing: bool,
        minimum_rate: float,
        gradient_clip: float | None,
        parallel_tasks: int | None,
        name: str,
    ):
        super().__init__(name=name, autocast=False)
        self.way, self.inner_steps = way, inner_steps
        self.query_statistics = query_statistics
        self.evaluation_statistics = evaluation_statistics or query_statistics
        for value in (self.query_statistics, self.evaluation_statistics):
            if value not in QUERY_STATISTICS:
                raise UserError(f"query statistics are one of {', '.join(QUERY_STATISTICS)}, not '{value}'")
        self.cosine_annealing, self.minimum_rate = cosine_annealing, minimum_rate
        self.gradient_clip = gradient_clip
        self.parallel_tasks = parallel_tasks or cores()

    def _finish(self, loss: str | Loss | None = None, metric: str | Loss | None = None) -> None:
        """Makes the metrics; the variables are all there."""
        self.real = self.model.trainable_variables[0].dtype
        self.classifies = self.way is not None or loss is None
        self.metric_function = metric_function(metric or accuracy)
        self._metric = mean_of(self.metric_function, self.real)
        self.metric_name = "accuracy" if metric is None else getattr(metric, "__name__", str(metric))
        names = ["meta_loss", "loss", self.metric_name, *map(self.step_metric, range(self.inner_steps + 1))]
        self._means = {n: keras.metrics.Mean(name=n) for n in names}
        self.set_epoch(0)
        self.built = True

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

    def task_curve(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """Query outputs before adaptation and after every inner step, `[steps + 1, Q, outputs]`; writes nothing."""
        raise NotImplementedError

    def task_answers(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """What `curves` gives of one task."""
        return self.task_curve(task, steps, statistics)

    def set_epoch(self, epoch: int) -> bool:
        """Sets what changes in `epoch` (0-based).

        Returns:
            Whether the training graph changed, so that `make_train_function(force=True)` is due.
        """
        return False

    def numbers(self) -> dict[str, Any]:
        """What an epoch's record says beside its metrics."""
        return {}

    # --- Through Keras --------------------------------------------------------------------------------

    def fit(self, *args: Any, callbacks: Sequence[keras.callbacks.Callback] | None = None, **kwargs: Any) -> Any:
        """`keras.Model.fit`, with the schedules applied (a `schedules.Schedules` of your own takes precedence)."""
        callbacks = list(callbacks or ())
        if not any(isinstance(c, schedules.Schedules) for c in callbacks):
            callbacks.insert(0, schedules.Schedules())
        kwargs.setdefault("shuffle", False)
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """`keras.Model.compile`; the loss and the metric are the constructor's, and XLA is off unless asked for."""
        unused = [name for name in ("loss", "metrics", "weighted_metrics", "loss_weights") if kwargs.get(name)]
        if unused:
            raise UserError(f"compile({unused[0]}=...) has no use here: give loss and metric to {type(self).__name__}")
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **kwargs)
        self.outer_rate = float(self.optimizer.learning_rate.numpy())
        # Variables made inside the train function would make it trace twice.
        self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> Any:
        if Workers(self.distribute_strategy).alone:
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = self._step_function(self.train_step)
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

    def meta_gradient(self, tasks: Task) -> tuple[list[tf.Tensor], list[tf.Tensor], dict[str, tf.Tensor]]:
        """Mean over tasks of the meta-gradient, each task's taken inside the map so that memory stays one task's.

        Args:
            tasks: a meta-batch.

        Returns:
            The gradient for each of `trainable_variables`, the new non-trainable variables of `model`, and
            the means of the outer `meta_loss`, the last step's `loss` and its metric.
        """
        sources = [v.value for v in self.trainable_variables]
        if tf.distribute.in_cross_replica_context():  # in a strategy's scope: reads are of the first replica
            sources = [tf.distribute.get_strategy().experimental_local_results(v)[0] for v in sources]
        state = self.model_state
        context = tf.distribute.get_replica_context()  # None outside of a strategy's `run`
        replica = context.replica_id_in_sync_group if context else 0
        first = replica * tf.shape(tasks["support_labels"])[0]  # tasks of the replicas before this one

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[Any, ...]:
            index, task = first + indexed[0], indexed[1]
            with tf.GradientTape() as tape:
                total, new_state, loss, metric = self.task_loss(task, with_task_seeds(state, index))
            gradients = tape.gradient(total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return gradients, with_task_seeds(new_state, -index), total, loss, metric

        scalar = tf.TensorSpec((), sources[0].dtype)
        signature = (
            [tf.TensorSpec(v.shape, v.dtype) for v in sources],
            [tf.TensorSpec(s.shape, s.dtype) for s in state],
            *(scalar, scalar, scalar),
        )
        gradients, states, *numbers = self._map(one, tasks, signature, self.batched_tasks)
        mean_loss, loss, metric = (tf.reduce_mean(n) for n in numbers)
        # As a mean of differences, which leaves alone, to the last bit, what no task changes: frozen weights.
        new_state = [
            before + tf.reduce_mean(after - before, 0) if after.dtype.is_floating else after[-1]
            for before, after in zip(state, states, strict=True)
        ]
        metrics = {"meta_loss": mean_loss, "loss": loss, self.metric_name: metric}
        return [tf.reduce_mean(g, 0) for g in gradients], new_state, metrics

    @property
    def model_state(self) -> list[tf.Tensor]:
        """The values of the model's non-trainable variables."""
        return [tf.convert_to_tensor(v) for v in self.model.non_trainable_variables]

    def _map(self, function: Callable[[Any], Any], tasks: Task, signature: Any, batched: bool = False) -> Any:
        elements = (tf.range(tf.shape(tasks["support_labels"])[0]), dict(tasks))
        if not batched:
            return tf.map_fn(function, elements, parallel_iterations=self.parallel_tasks, fn_output_signature=signature)
        try:
            return tf.vectorized_map(function, elements, fallback_to_while_loop=False)
        except ValueError as error:
            first = str(error).strip().partition("\n")[0]
            if not re.search("pfor|loop invariant", str(error)):
                raise
            raise UserError(f"batched_tasks cannot batch an operation of this model ({first}): turn it off") from error

    @tf.autograph.experimental.do_not_convert
    def train_step(self, tasks: Task) -> dict[str, tf.Tensor]:
        """One outer update: reduce over replicas, clip, apply.

        Its logs are means over the epoch so far, but for those of `stability.UPDATE_LOGS`, which are this update's:
        `update_loss` (the outer loss), `gradient_norm` (of the meta-gradient, before it is clipped) and, with
        `gradient_clip`, `clipped` (the fraction of its entries that were).
        """
        gradients, state, numbers = self.meta_gradient(tasks)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        latest = {"update_loss": numbers["meta_loss"], "gradient_norm": tf.linalg.global_norm(gradients)}
        if self.gradient_clip:
            beyond = tf.concat([tf.reshape(tf.abs(g) > self.gradient_clip, [-1]) for g in gradients], 0)
            latest["clipped"] = tf.reduce_mean(tf.cast(beyond, tf.float32))
            gradients = [tf.clip_by_value(g, -self.gradient_clip, self.gradient_clip) for g in gradients]
        # Keras's optimizers sum over replicas what is already the mean of all of them.
        self.optimizer.apply([g / replicas for g in gradients], self.trainable_variables)
        for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
            variable.assign(value)
        for name, value in numbers.items():
            # Weights of replicas add up to 1: an epoch may go on with another number of them.
            self._means[name].update_state(value, 1 / replicas)
        return {**{name: self._means[name].result() for name in numbers}, **latest}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, tasks: Task) -> dict[str, tf.Tensor]:
        """Last step's loss, and the metric after 0..N inner steps; writes no variable but the metrics' own."""

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[tf.Tensor, tf.Tensor]:
            labels = indexed[1]["query_labels"]
            curve = tf.unstack(self.task_curve(indexed[1], self.inner_steps, self.evaluation_statistics))
            return self._loss(labels, curve[-1]), tf.stack([self._metric(labels, outputs) for outputs in curve])

        signature = (tf.TensorSpec((), self.real), tf.TensorSpec((self.inner_steps + 1,), self.real))
        losses, metrics = self._map(one, tasks, signature, self.batched_tasks)
        names = [self.step_metric(k) for k in range(self.inner_steps + 1)]
        for name, values in zip(names, tf.unstack(metrics, axis=1), strict=True):
            self._means[name].update_state(values)
        self._means[self.metric_name].update_state(metrics[:, -1])
        self._means["loss"].update_state(losses)
        return {name: self._means[name].result() for name in ("loss", self.metric_name, *names)}

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
        signature = tf.TensorSpec(None, self.real)
        return self._map(lambda indexed: self.task_answers(indexed[1], steps, statistics), tasks, signature)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    @staticmethod
    def step_metric(k: int) -> str:
        """The name under which the metric after `k` inner steps is logged."""
        return f"step_{k}"
