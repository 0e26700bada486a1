"""`MetaLearner`: MAML and MAML++ around any Keras model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mamlpp import schedules
from tf_mamlpp.adaptable import AdaptableModel, Loss, Task, Tensors, adapted_variables, own_seeds
from tf_mamlpp.errors import UserError
from tf_mamlpp.inner_rates import InnerRates
from tf_mamlpp.layers import convert_normalization
from tf_mamlpp.methods import QUERY_STATISTICS
from tf_mamlpp.runtime import cores


class Adapted(NamedTuple):
    """What `MetaLearner.adapt` learned from a support set: every weight of the model after the inner loop."""

    weights: Tensors
    state: Tensors
    row: int
    query_statistics: str


def _mean(function: Loss, dtype: str) -> Loss:
    """`function` averaged over everything but the tasks, in `dtype`."""
    return lambda labels, outputs: tf.cast(tf.reduce_mean(function(labels, outputs)), dtype)


def _unscaled(loss: Any) -> Loss:
    # Called as a whole, a Keras Loss that takes a mean also divides by the number of replicas, which would shrink the
    # inner steps, and casts to its own dtype.
    mean = isinstance(loss, keras.losses.Loss) and loss.reduction in ("sum_over_batch_size", "mean")
    return loss.call if mean else loss


def _metric(metric: str | Loss) -> Loss:
    # Keras's `get` makes a stateful metric of a name.
    function = getattr(keras.metrics, metric, None) if isinstance(metric, str) else metric
    if not callable(function) or isinstance(function, type):
        raise UserError(f"metric {metric!r} is not a function of keras.metrics, such as 'mean_squared_error'")
    return function


def _check_model(model: keras.Model, way: int | None) -> None:
    if not model.built or not model.trainable_variables:
        raise UserError(f"model '{model.name}' has no weights yet: give it an Input, or call it once on a batch")
    shape = getattr(model, "output_shape", None)
    if way and isinstance(shape, tuple) and shape[-1] != way:
        raise UserError(
            f"model '{model.name}' has {shape[-1]} outputs for {way}-way tasks: make its last layer {way} wide"
        )


class MetaLearner(keras.Model):
    """Meta-trains a Keras model so that a few gradient steps on a small support set teach it a new task.

    A `keras.Model`: `compile(optimizer)`, `fit(episodes, ...)`, `evaluate(episodes)` and callbacks work as
    usual, under `tf.distribute` too.  One element of the data is a meta-batch of tasks, a dict of
    `support_images` `[tasks, S, ...]`, `support_labels` `[tasks, S]`, `query_images` `[tasks, Q, ...]` and
    `query_labels` `[tasks, Q]`; see `tf_mamlpp.episodes`.

    The six modifications of "How to train your MAML" (section 4) are switches, all off by default, which is
    MAML; `presets` names the usual combinations: `MetaLearner(model, way=5, **presets["maml++"])`.

    Args:
        model: maps images `[B, ...]` to logits `[B, way]`; Sequential, functional or subclassed, and built.
            Stock normalisation layers are converted (see `convert_normalization`) in a copy, `self.model`.
        way: classes of a task, checked against the model's output; None for regression.
        inner_steps: N, how many gradient steps a task's support set gets.
        inner_rate: α, or the starting value of the learned rates.
        multi_step_loss: MSL, the query loss after every step counts, with weights that anneal to the last.
        derivative_order_annealing: DA, first-order gradients before `second_order_from_epoch`.
        per_step_statistics: BNRS, moving statistics for each inner step.
        per_step_weights: BNWB, batch-norm weights for each inner step.
        learned_rates: LSLR, a learned rate for each tensor and step.
        cosine_annealing: CA, `fit` anneals the optimizer's rate to `minimum_rate`.
        first_order: never take second derivatives (first-order MAML).
        multi_step_loss_epochs: E of `schedules.loss_weights`.
        second_order_from_epoch: the paper's 50.
        minimum_rate: where cosine annealing ends.
        adapted: which weights the inner loop changes: `all` but batch norm's, `head` (the last layer that has
            weights: ANIL), or a predicate on a variable's path.
        query_statistics: what batch norm normalises the query set with in training: `batch` (the query
            batch's own moments), `running` (the moving statistics) or `support` (the support set's).
        evaluation_statistics: the same for evaluation; None for `query_statistics`.
        loss: of both loops, `(labels, outputs) -> [B]` or scalar, a Keras loss or its name; None for
            cross-entropy on logits.
        metric: `(labels, outputs) -> [B]`, a Keras metric function or its name; None for accuracy.
        gradient_clip: each entry of the meta-gradient is clipped to ± this (paper: 10 on mini-ImageNet).
        parallel_tasks: tasks computed at once; None for the number of cores.

    Raises:
        UserError: a setting that contradicts another, or a model that does not fit.

    References:
        Antoniou, Edwards, Storkey, "How to train your MAML", arXiv 1810.09502.
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning", arXiv 1703.03400.
        Raghu et al., "Rapid Learning or Feature Reuse?" (ANIL), arXiv 1909.09157.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        way: int | None = None,
        inner_steps: int = 5,
        inner_rate: float = 0.1,
        multi_step_loss: bool = False,
        derivative_order_annealing: bool = False,
        per_step_statistics: bool = False,
        per_step_weights: bool = False,
        learned_rates: bool = False,
        cosine_annealing: bool = False,
        first_order: bool = False,
        multi_step_loss_epochs: int = 10,
        second_order_from_epoch: int = 50,
        minimum_rate: float = 1e-5,
        adapted: str | Callable[[str], bool] = "all",
        query_statistics: str = "batch",
        evaluation_statistics: str | None = None,
        loss: str | Loss | None = None,
        metric: str | Loss | None = None,
        gradient_clip: float | None = None,
        parallel_tasks: int | None = None,
        name: str = "meta_learner",
    ):
        super().__init__(name=name, autocast=False)
        self.inner_steps, self.per_step_statistics = inner_steps, per_step_statistics
        self.derivative_order_annealing = derivative_order_annealing
        self.cosine_annealing, self.minimum_rate = cosine_annealing, minimum_rate
        self.first_order, self.second_order_from_epoch = first_order, second_order_from_epoch
        self.multi_step_loss_epochs = multi_step_loss_epochs if multi_step_loss else 0
        self.query_statistics = query_statistics
        self.evaluation_statistics = evaluation_statistics or query_statistics
        self.gradient_clip = gradient_clip
        self.parallel_tasks = parallel_tasks or cores()
        self._check_settings()
        self.way = way
        self.model = convert_normalization(model, inner_steps, per_step_weights, per_step_statistics)
        _check_model(self.model, way)
        weights = self.model.trainable_variables
        dtype = weights[0].dtype
        chosen = adapted_variables(self.model, adapted)
        self.adapted_paths = [weights[i].path for i in chosen]
        self.inner_rates = InnerRates(
            len(chosen), inner_steps, inner_rate, learned_rates, name="inner_rates", dtype=dtype
        )
        self.loss_weights = self.add_weight(
            name="loss_weights", shape=(inner_steps,), trainable=False, dtype=dtype, aggregation="mean"
        )
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._loss = _mean(_unscaled(keras.losses.get(loss) if loss else cross_entropy), dtype)
        self._adaptable = AdaptableModel(self.model, chosen, self.inner_rates, self._loss, way)
        self.classifies = way is not None or loss is None
        self.metric_function = _metric(metric or "sparse_categorical_accuracy")
        self._metric = _mean(self.metric_function, dtype)
        self.metric_name = "accuracy" if metric is None else getattr(metric, "__name__", str(metric))
        names = ["meta_loss", "loss", self.metric_name, *map(self.step_metric, range(inner_steps + 1))]
        self._means = {n: keras.metrics.Mean(name=n) for n in names}
        self._learn = tf.function(self._learn_one, reduce_retracing=True)
        self._answer = tf.function(self._answer_one, reduce_retracing=True)
        self.set_epoch(0)
        self.built = True

    def _check_settings(self) -> None:
        for value in (self.query_statistics, self.evaluation_statistics):
            if value not in QUERY_STATISTICS:
                raise UserError(f"query statistics are one of {', '.join(QUERY_STATISTICS)}, not '{value}'")
        if self.inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {self.inner_steps}")
        if self.first_order and self.derivative_order_annealing:
            raise UserError("first_order and derivative_order_annealing contradict each other: choose one")

    # --- What changes between epochs ---------------------------------------------------------------

    def set_epoch(self, epoch: int) -> bool:
        """Sets the loss weights and the derivative order of `epoch` (0-based).

        Returns:
            Whether the training graph changed, so that `make_train_function(force=True)` is due.
        """
        self.loss_weights.assign(schedules.loss_weights(epoch, self.inner_steps, self.multi_step_loss_epochs))
        annealed = self.derivative_order_annealing and epoch < self.second_order_from_epoch
        before = getattr(self, "_graph", None)
        self._graph = (not (self.first_order or annealed), epoch < self.multi_step_loss_epochs)
        return self._graph != before

    @property
    def second_order(self) -> bool:
        """Whether meta-gradients of this epoch are second order."""
        return self._graph[0]

    @property
    def all_steps_count(self) -> bool:
        """Whether the query loss after every inner step counts in this epoch, not only the last."""
        return self._graph[1]

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
            raise UserError(f"compile({unused[0]}=...) has no use here: give loss and metric to MetaLearner")
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **kwargs)
        self.outer_rate = float(self.optimizer.learning_rate.numpy())
        # Variables made inside the train function would make it trace twice.
        self.optimizer.build(self.trainable_variables)

    # --- One task ------------------------------------------------------------------------------------

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits of the model before any adaptation."""
        return self.model(images, training=training)

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, tf.Tensor]:
        """The outer loss of one task: Σ_k w_k L_query(θ_{k+1}), or its last term alone.

        Args:
            task: tensors without the tasks axis.
            state: the model's non-trainable variables.

        Returns:
            The scalar loss, the new state, and the last query pass's loss and metric.
        """
        steps = range(self.inner_steps)
        queried = set(steps) if self.all_steps_count else {steps[-1]}
        # Each row of moving statistics is updated once: by the query pass that may read it, or else by the
        # support pass of its step.  Where all steps share one row that query passes read, the last one alone updates
        # it: nothing that a task reads may be its own record, whose gradient is stopped.
        query_recorded = set() if self.query_statistics == "support" else queried
        recorded = set(steps) - query_recorded
        if self.query_statistics == "running" and not self.per_step_statistics:
            query_recorded, recorded = {steps[-1]}, set()
        losses: list[tf.Tensor] = []
        outputs = None

        def query(fast: list[tf.Tensor], state: Tensors, k: int) -> Tensors:
            nonlocal outputs
            if k in queried:
                outputs, state = self._adaptable.query_outputs(
                    fast, state, task, k, statistics=self.query_statistics, training=True, record=k in query_recorded
                )
                losses.append(self._loss(task["query_labels"], outputs))
            return state

        _, state = self._adaptable.run(
            task,
            state,
            self.inner_steps,
            second_order=self.second_order,
            training=True,
            recorded=sorted(recorded),
            after_step=query,
        )
        total = losses[-1]
        if self.all_steps_count:
            total = tf.tensordot(tf.stack(losses), tf.convert_to_tensor(self.loss_weights), 1)
        return total, state, losses[-1], self._metric(task["query_labels"], outputs)

    def task_curve(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """Query outputs before adaptation and after every inner step, `[steps + 1, Q, outputs]`; writes nothing."""
        model = self._adaptable
        curve = []

        def query(fast: Tensors, state: Tensors, k: int) -> Tensors:
            curve.append(model.query_outputs(fast, state, task, k, statistics=statistics, training=False)[0])
            return state

        query(model.fast, model.state, 0)
        model.run(task, model.state, steps, after_step=query)
        return tf.cast(tf.stack(curve), self.loss_weights.dtype)

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
        state = self._adaptable.state

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[Any, ...]:
            index, task = indexed
            with tf.GradientTape() as tape:
                total, new_state, loss, metric = self.task_loss(task, own_seeds(state, index))
            gradients = tape.gradient(total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return gradients, new_state, total, loss, metric

        scalar = tf.TensorSpec((), sources[0].dtype)
        signature = (
            [tf.TensorSpec(v.shape, v.dtype) for v in sources],
            [tf.TensorSpec(s.shape, s.dtype) for s in state],
            *(scalar, scalar, scalar),
        )
        gradients, states, *numbers = self._map(one, tasks, signature)
        mean_loss, loss, metric = (tf.reduce_mean(n) for n in numbers)
        new_state = [tf.reduce_mean(s, 0) if s.dtype.is_floating else s[-1] for s in states]
        metrics = {"meta_loss": mean_loss, "loss": loss, self.metric_name: metric}
        return [tf.reduce_mean(g, 0) for g in gradients], new_state, metrics

    def _map(self, function: Callable[[Any], Any], tasks: Task, signature: Any) -> Any:
        count = tf.shape(tasks["support_labels"])[0]
        elements = (tf.range(count), dict(tasks))
        return tf.map_fn(function, elements, parallel_iterations=self.parallel_tasks, fn_output_signature=signature)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, tasks: Task) -> dict[str, tf.Tensor]:
        """One outer update: reduce over replicas, clip, apply."""
        gradients, state, numbers = self.meta_gradient(tasks)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        if self.gradient_clip:
            gradients = [tf.clip_by_value(g, -self.gradient_clip, self.gradient_clip) for g in gradients]
        # Keras's optimizers sum over replicas what is already the mean of all of them.
        self.optimizer.apply([g / replicas for g in gradients], self.trainable_variables)
        for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
            variable.assign(value)
        for name, value in numbers.items():
            self._means[name].update_state(value)
        return {name: self._means[name].result() for name in numbers}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, tasks: Task) -> dict[str, tf.Tensor]:
        """Last step's loss, and the metric after 0..N inner steps; writes no variable but the metrics' own."""

        def one(indexed: tuple[tf.Tensor, Task]) -> tuple[tf.Tensor, tf.Tensor]:
            labels = indexed[1]["query_labels"]
            curve = tf.unstack(self.task_curve(indexed[1], self.inner_steps, self.evaluation_statistics))
            return self._loss(labels, curve[-1]), tf.stack([self._metric(labels, outputs) for outputs in curve])

        dtype = self.loss_weights.dtype
        losses, metrics = self._map(
            one, tasks, (tf.TensorSpec((), dtype), tf.TensorSpec((self.inner_steps + 1,), dtype))
        )
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
        signature = tf.TensorSpec(None, self.loss_weights.dtype)
        return self._map(lambda indexed: self.task_curve(indexed[1], steps, statistics), tasks, signature)

    # --- Use ------------------------------------------------------------------------------------------

    def adapt(
        self,
        support_images: Any,
        support_labels: Any,
        inner_steps: int | None = None,
        query_statistics: str = "support",
    ) -> Adapted:
        """Learns one task from its support set.

        Args:
            support_images: `[S, ...]`, prepared as in training.
            support_labels: `[S]`.
            inner_steps: None for as many as trained.
            query_statistics: what `predict_adapted` normalises with: `support` (an answer never depends on its
                neighbours), `running`, or `batch`.

        Returns:
            What `predict_adapted` needs.
        """
        steps = self.inner_steps if inner_steps is None else inner_steps
        support = tf.convert_to_tensor(support_images), tf.convert_to_tensor(support_labels)
        weights, state = self._learn(*support, steps, query_statistics)
        return Adapted(weights, state, max(steps - 1, 0), query_statistics)

    def predict_adapted(self, adapted: Adapted, images: Any) -> tf.Tensor:
        """Probabilities `[Q, way]` (regression: outputs) of images `[Q, ...]` under what `adapt` learned."""
        statistics = "batch" if adapted.query_statistics == "batch" else "running"
        return self._answer(adapted.weights, adapted.state, tf.convert_to_tensor(images), adapted.row, statistics)

    def _learn_one(self, images: tf.Tensor, labels: tf.Tensor, steps: int, statistics: str) -> tuple[Tensors, Tensors]:
        model = self._adaptable
        fast, state = model.run({"support_images": images, "support_labels": labels}, model.state, steps)
        weights = model.weights(fast)
        if statistics == "support":
            state = model.support_statistics(weights, state, images, max(steps - 1, 0))
        return weights, state

    def _answer_one(self, weights: Tensors, state: Tensors, images: tf.Tensor, row: int, statistics: str) -> tf.Tensor:
        outputs, _ = self._adaptable.outputs(weights, state, images, row, statistics=statistics)
        return tf.nn.softmax(outputs) if self.classifies else outputs

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    @staticmethod
    def step_metric(k: int) -> str:
        """The name under which the metric after `k` inner steps is logged."""
        return f"step_{k}"
