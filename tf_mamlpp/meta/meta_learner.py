"""`MetaLearner`: MAML and MAML++ around any Keras model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization, per_step_drift
from tf_mamlpp.meta import multi_step_loss
from tf_mamlpp.meta.adapted_weights import adapted_variables, shared_head_positions
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.learned_rates import LearnedRates
from tf_mamlpp.meta.losses import mean_loss
from tf_mamlpp.meta.multi_step_loss import with_known_gradients
from tf_mamlpp.meta.outer_loop import EpisodicModel, check_built
from tf_mamlpp.meta.rematerialisation import recomputed_loop
from tf_mamlpp.meta.task import Loss, Task, Tensors


class Adapted(NamedTuple):
    """What `MetaLearner.adapt` learned from a support set: every weight of the model after the inner loop."""

    weights: Tensors
    state: Tensors
    row: int
    query_statistics: str


def _check_width(model: keras.Model, way: int | None) -> None:
    shape = getattr(model, "output_shape", None)
    if way and isinstance(shape, tuple) and shape[-1] != way:
        raise UserError(
            f"model '{model.name}' has {shape[-1]} outputs for {way}-way tasks: make its last layer {way} wide"
        )


def _any_number(tensor: tf.Tensor) -> tf.TensorSpec:
    """A signature for any number of pictures or labels, so that another number is not traced again."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


class MetaLearner(EpisodicModel):
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
        elementwise_rates: a learned rate for each weight instead of each tensor; the same in all steps (Meta-SGD), or
            with `learned_rates` one for each step too.
        cosine_annealing: CA, `fit` anneals the optimizer's rate to `minimum_rate`.
        first_order: never take second derivatives (first-order MAML).
        multi_step_loss_epochs: E of `schedules.loss_weights`.
        second_order_from_epoch: the paper's 50.
        minimum_rate: where cosine annealing ends.
        adapted: which weights the inner loop changes: `all` but batch norm's, `head` (the last layer that has
            weights: ANIL), `body` (all but the head: BOIL), a regular expression that is searched for in a
            variable's path (`conv4/conv0/kernel`), or a predicate on it.  Layers whose `trainable` was False when
            the model was given are frozen: neither loop changes them.
        shared_head: every class starts with the same head, the one vector that is learned (UNICORN-MAML).
        label_permutations: how many rotations of the classes' order `curves` and `evaluate` (not `fit`'s validation)
            adapt to and average the probabilities of; 1 to `way`, which costs as many times the time.
        query_statistics: what batch norm normalises the query set with in training: `batch` (the query
            batch's own moments), `running` (the moving statistics) or `support` (the support set's).
        evaluation_statistics: the same for evaluation; None for `query_statistics`.
        loss: of both loops, `(labels, outputs) -> [B]` or scalar, a Keras loss or its name; None for
            cross-entropy on logits.
        metric: `(labels, outputs) -> [B]`, a Keras metric function or its name; None for accuracy.
        gradient_clip: each entry of the meta-gradient is clipped to ± this (paper: 10 on mini-ImageNet).
        parallel_tasks: tasks computed at once; None for the number of cores.
        batched_tasks: computes all tasks of a replica as one batch, convolutions as batched matrix products: for a GPU
            that one task is too small to fill.  The same numbers, tasks times the memory; slower on a CPU.  Training
            and validation only; `parallel_tasks` has no use with it.
        rematerialise: the backward pass computes each inner step again, so that memory hardly grows with
            `inner_steps`; exact, for 1.2 to 1.7 times the time.

    Raises:
        UserError: a setting that contradicts another, or a model that does not fit.

    References:
        Antoniou, Edwards, Storkey, "How to train your MAML", arXiv 1810.09502.
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning", arXiv 1703.03400.
        Raghu et al., "Rapid Learning or Feature Reuse?" (ANIL), arXiv 1909.09157.
        Oh et al., "BOIL: Towards Representation Change for Few-shot Learning", arXiv 2008.08882.
        Li et al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", arXiv 1707.09835.
        Ye, Chao, "How to Train Your MAML to Excel in Few-Shot Classification" (UNICORN-MAML, label permutations),
            arXiv 2106.16245.
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
        elementwise_rates: bool = False,
        cosine_annealing: bool = False,
        first_order: bool = False,
        multi_step_loss_epochs: int = 10,
        second_order_from_epoch: int = 50,
        minimum_rate: float = 1e-5,
        adapted: str | Callable[[str], bool] = "all",
        shared_head: bool = False,
        label_permutations: int = 1,
        query_statistics: str = "batch",
        evaluation_statistics: str | None = None,
        loss: str | Loss | None = None,
        metric: str | Loss | None = None,
        gradient_clip: float | None = None,
        parallel_tasks: int | None = None,
        batched_tasks: bool = False,
        rematerialise: bool = False,
        name: str = "meta_learner",
    ):
        super().__init__(
            way=way,
            inner_steps=inner_steps,
            query_statistics=query_statistics,
            evaluation_statistics=evaluation_statistics,
            cosine_annealing=cosine_annealing,
            minimum_rate=minimum_rate,
            gradient_clip=gradient_clip,
            parallel_tasks=parallel_tasks,
            name=name,
        )
        self.per_step_statistics = per_step_statistics
        self.derivative_order_annealing = derivative_order_annealing
        self.first_order, self.second_order_from_epoch = first_order, second_order_from_epoch
        self.multi_step_loss_epochs = multi_step_loss_epochs if multi_step_loss else 0
        self.label_permutations, self.rematerialise = label_permutations, rematerialise
        self.batched_tasks = batched_tasks
        self._check_settings()
        if shared_head and elementwise_rates:
            raise UserError("shared_head makes all classes alike, elementwise_rates would tell them apart: choose one")
        if shared_head and label_permutations > 1:
            raise UserError("label_permutations has no use with shared_head: the order of classes is immaterial")
        self.model = convert_normalization(model, inner_steps, per_step_weights, per_step_statistics, batched_tasks)
        check_built(self.model)
        _check_width(self.model, way)
        weights = self.model.trainable_variables
        dtype = weights[0].dtype
        chosen = adapted_variables(self.model, adapted)
        self.adapted_paths = [weights[i].path for i in chosen]
        self.inner_rates = LearnedRates(
            len(chosen),
            inner_steps if learned_rates or not elementwise_rates else 1,
            inner_rate,
            learned_rates or elementwise_rates,
            [weights[i].shape for i in chosen] if elementwise_rates else None,
            name="inner_rates",
            dtype=dtype,
        )
        self.loss_weights = self.add_weight(
            name="loss_weights", shape=(inner_steps,), trainable=False, dtype=dtype, aggregation="mean"
        )
        self._loss = mean_loss(loss, dtype)
        shared = shared_head_positions(self.model, chosen, way) if shared_head else []
        self._adaptable = FunctionalModel(self.model, chosen, self.inner_rates, self._loss, way, shared)
        self._learn = tf.function(self._learn_one, autograph=False)
        self._answer = tf.function(self._answer_one, autograph=False)
        self._finish(loss, metric)

    def _check_settings(self) -> None:
        if self.inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {self.inner_steps}")
        if self.first_order and self.derivative_order_annealing:
            raise UserError("first_order and derivative_order_annealing contradict each other: choose one")
        if self.rematerialise and self.batched_tasks:
            raise UserError("rematerialise computes one step at a time, batched_tasks all tasks at once: choose one")
        if not 1 <= self.label_permutations <= (self.way or 1):
            raise UserError(f"label_permutations is {self.label_permutations}: it must be 1 to the way, {self.way}")

    # --- What changes between epochs ---------------------------------------------------------------

    def set_epoch(self, epoch: int) -> bool:
        """Sets the loss weights and the derivative order of `epoch` (0-based).

        Returns:
            Whether the training graph changed, so that `make_train_function(force=True)` is due.
        """
        self.loss_weights.assign(multi_step_loss.loss_weights(epoch, self.inner_steps, self.multi_step_loss_epochs))
        annealed = self.derivative_order_annealing and epoch < self.second_order_from_epoch
        before = getattr(self, "_graph", None)
        self._graph = (not (self.first_order or annealed), epoch < self.multi_step_loss_epochs)
        return self._graph != before

    @property
    def second_order(self) -> bool:
        """Whether meta-gradients of this epoch are second order."""
        return self._graph[0]

    def numbers(self) -> dict[str, Any]:
        rates = self.inner_rates.table.numpy()
        return {
            "second_order": self.second_order,
            "loss_weights": [round(float(w), 6) for w in self.loss_weights.numpy()],
            "inner_rate_minimum": float(rates.min()),
            "inner_rate_maximum": float(rates.max()),
            "inner_rates": self._rounded(zip(self.adapted_paths, self.inner_rates.means().numpy(), strict=True)),
            "batch_norm_drift": self._rounded(per_step_drift(self.model)),
        }

    @staticmethod
    def _rounded(rows: Iterable[tuple[str, Any]]) -> dict[str, list[float]]:
        """`{path: [inner_steps]}`, to six digits, without the model's name in the paths."""
        return {path.partition("/")[2] or path: [float(f"{v:.6g}") for v in row] for path, row in rows}

    @property
    def all_steps_count(self) -> bool:
        """Whether the query loss after every inner step counts in this epoch, not only the last."""
        return self._graph[1]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        # Not `self.model(images)`: with a shared head the start is not what the variables hold.
        state = self.model_state
        outputs, state = self.model.stateless_call(self._adaptable.start, state, images, training=training)
        if training:
            for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
                variable.assign(value)
        return outputs

    # --- One task ------------------------------------------------------------------------------------

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, tf.Tensor]:
        """The outer loss of one task, Σ_k w_k L_query(θ_{k+1}) or its last term alone; see `EpisodicModel`."""
        start, rates = self._adaptable.start, tf.convert_to_tensor(self.inner_rates.table)
        carried = [start[i] for i in self._adaptable.adapted], list(state)
        last = self.inner_steps - 1

        def step(*now: Any) -> tuple[Any, tf.Tensor]:
            return self._outer_step(task, *now)[:2]

        if self.rematerialise and last:
            carried, losses = recomputed_loop(step, last, carried, (start, rates))
            losses = tf.unstack(losses)
        else:
            losses = []
            # In a graph the steps are calls of one function, traced once; TensorFlow inlines them.
            again = tf.function(step, autograph=False) if tf.inside_function() else step
            for k in range(last):
                carried, loss = again(carried, (start, rates), tf.constant(k))
                losses.append(loss)
        # The backward pass begins with the last step: it is kept for no time.
        (_, state), loss, outputs = self._outer_step(task, carried, (start, rates), last, last=True)
        total = loss
        if self.all_steps_count:
            total = tf.tensordot(tf.stack([*losses, loss]), tf.convert_to_tensor(self.loss_weights), 1)
        return total, state, loss, self._metric(task["query_labels"], outputs)

    def _outer_step(
        self, task: Task, carried: Any, constants: Any, k: int | tf.Tensor, last: bool = False
    ) -> tuple[Any, tf.Tensor, tf.Tensor | None]:
        """Inner step `k` and, if it counts, its query pass: what goes on, the query loss (or 0), and outputs."""
        (fast, state), (start, rates) = carried, constants
        queried = last or self.all_steps_count
        # Each row of moving statistics is updated once: by the query pass that may read it, or else by the
        # support pass of its step.  Where all steps share one row that query passes read, the last one alone updates
        # it: nothing that a task reads may be its own record, whose gradient is stopped.
        one_row = self.query_statistics == "running" and not self.per_step_statistics
        query_records = queried and self.query_statistics != "support" and (last or not one_row)
        fast, state = self._adaptable.step(
            fast,
            state,
            task,
            k,
            start=start,
            rates=rates,
            second_order=self.second_order,
            training=True,
            record=not query_records and not one_row,
        )
        if not queried:
            return (fast, list(state)), tf.zeros((), self.real), None
        # Tensors of their own: of one that came twice, each place would get the whole gradient.
        fast, state, start = tf.nest.map_structure(tf.identity, (list(fast), list(state), list(start)))
        sources = [*self._adaptable.weights(fast, start), *(x for x in state if x.dtype.is_floating)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs, state = self._adaptable.query_outputs(
                fast,
                state,
                task,
                k,
                statistics=self.query_statistics,
                training=True,
                record=query_records,
                start=start,
            )
            loss = self._loss(task["query_labels"], outputs)
        if not self.rematerialise:  # which keeps one step at a time
            # Now: all that the query pass computed would be kept until the outer backward pass came to it.
            gradients = tape.gradient(loss, sources)
            loss = with_known_gradients(loss, sources, gradients)
            # Else TensorFlow would compute the next steps beside it, and so keep their query passes too.
            with tf.control_dependencies([g for g in gradients if g is not None]):
                fast = [tf.identity(w) for w in fast]
        return (fast, list(state)), loss, outputs

    def task_curve(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """Query outputs before adaptation and after every inner step, `[steps + 1, Q, outputs]`; writes nothing."""
        model = self._adaptable
        curve = []

        def query(fast: Tensors, state: Tensors, k: int) -> Tensors:
            curve.append(model.query_outputs(fast, state, task, k, statistics=statistics, training=False)[0])
            return state

        query(model.fast, model.state, 0)
        model.run(task, model.state, steps, after_step=query)
        return tf.stack(curve)

    def task_answers(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """`task_curve`, or the logarithm of its probabilities averaged over `label_permutations`."""
        if self.label_permutations == 1:
            return self.task_curve(task, steps, statistics)

        def rotated(shift: tf.Tensor) -> tf.Tensor:
            labels = (task["support_labels"] + tf.cast(shift, task["support_labels"].dtype)) % self.way
            curve = self.task_curve({**task, "support_labels": labels}, steps, statistics)
            return tf.roll(tf.nn.log_softmax(curve), -shift, axis=-1)

        logs = tf.map_fn(rotated, tf.range(self.label_permutations), fn_output_signature=self.real)
        return tf.reduce_logsumexp(logs, 0) - math.log(self.label_permutations)

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
        learn = self._learn.get_concrete_function(*map(_any_number, support), steps, query_statistics)
        weights, state = learn(*support, steps, query_statistics)
        return Adapted(weights, state, max(steps - 1, 0), query_statistics)

    def predict_adapted(self, adapted: Adapted, images: Any) -> tf.Tensor:
        """Probabilities `[Q, way]` (regression: outputs) of images `[Q, ...]` under what `adapt` learned."""
        statistics = "batch" if adapted.query_statistics == "batch" else "running"
        images = tf.convert_to_tensor(images)
        learned = list(adapted.weights), list(adapted.state)
        answer = self._answer.get_concrete_function(*learned, _any_number(images), adapted.row, statistics)
        return answer(*learned, images, adapted.row, statistics)

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
