"""A Keras model as the inner loop sees it: a pure function of fast weights and state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.borrowed_model import training_argument
from tf_mamlpp.layers.inexact import check_operations, name_missing_derivatives
from tf_mamlpp.layers.random_draws import seeded_draws_only
from tf_mamlpp.layers.recurrence import plain_recurrences
from tf_mamlpp.layers.second_order_ops import first_order_only
from tf_mamlpp.layers.step_context import inner_step
from tf_mamlpp.layers.traced_operations import traced_operations
from tf_mamlpp.meta.heads import Head, classes_of, last_layer
from tf_mamlpp.meta.inner_loop import AfterStep, adapt, descend, support_gradient
from tf_mamlpp.meta.learned_rates import LearnedRates
from tf_mamlpp.meta.loss_scaling import INNER_SCALE, computes_in_float16
from tf_mamlpp.meta.model_checks import check_width, declared_inputs, only_output
from tf_mamlpp.meta.task import Loss, Task, Tensors


def with_task_seeds(state: Tensors, task: tf.Tensor) -> list[tf.Tensor]:
    """The state with another seed in each task's seed generators, so that no two tasks drop the same units.

    Args:
        state: values of a model's non-trainable variables.
        task: the task's number, an int32 scalar; its negative takes the change back.

    Example:
        >>> seeds = keras.random.SeedGenerator(7).state.value  # the seed, and how often it was used
        >>> moved = with_task_seeds([seeds], tf.constant(1))
        >>> (moved[0].numpy() - seeds.numpy()).tolist()
        [65537, 0]
        >>> bool(tf.reduce_all(with_task_seeds(moved, tf.constant(-1))[0] == seeds))
        True
    """
    # Keras's seed generators keep two integers, the seed and a counter.  The odd number keeps neighbouring tasks away
    # from the neighbouring seeds that a user may give to layers.
    ahead = tf.stack([task * 65537, tf.zeros_like(task)])
    return [s + tf.cast(ahead, s.dtype) if s.dtype.is_integer and s.shape == (2,) else s for s in state]


class FunctionalModel:
    """Passes of a model with given weights, and the inner loop over them.  Writes no variable.

    `fast` are the adapted weights alone, `weights` all trainable ones, `state` the non-trainable ones (moving
    statistics, seeds), which each pass takes and returns.

    Args:
        model: owned by the learner.
        adapted: positions of the adapted ones in `model.trainable_variables`.
        rates: of the inner loop.
        loss: `(labels, outputs) -> scalar`, of the inner loop.
        way: the width that outputs must have; None for any, as with a head of any number of classes.
        head: where each task has its own start of the last layer; None for one that is learned.

    Attributes:
        one_hot: whether labels are a number for each class.

    Example:
        >>> import tf_mamlpp as mp
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model = mp.MetaLearner(net, way=2, inner_steps=1, inner_rate=0.5).functional_model
        >>> task = {"support_images": tf.eye(2, 4), "support_labels": tf.constant([0, 1])}
        >>> fast, state = model.adapt(task, model.state, steps=1)
        >>> outputs, _, added = model.outputs(model.weights(fast), state, tf.eye(2, 4), 0, statistics="batch")
        >>> outputs.shape, added  # no regulariser
        (TensorShape([2, 2]), None)
    """

    def __init__(
        self,
        model: keras.Model,
        adapted: Sequence[int],
        rates: LearnedRates,
        loss: Loss,
        way: int | None = None,
        head: Head | None = None,
    ):
        self.model, self.adapted, self.rates, self.loss = model, list(adapted), rates, loss
        self.head, self.one_hot = head, False
        self.way = None if self.any_way else way
        self.inner_scale = INNER_SCALE if computes_in_float16(model) else None
        self._paths = [v.path for v in model.trainable_variables]

    @property
    def any_way(self) -> bool:
        """Whether a task may have any number of classes."""
        return self.head is not None and self.head.body is not None

    @property
    def start(self) -> list[tf.Tensor]:
        """The meta-learned values of all trainable weights; what a task's own head starts with, `begin` gives."""
        if [v.path for v in self.model.trainable_variables] != self._paths:
            raise UserError(f"model '{self.model.name}': freeze layers before the model is given to MetaLearner")
        return [tf.convert_to_tensor(v) for v in self.model.trainable_variables]

    def begin(self, task: Task, state: Tensors, training: bool = False) -> tuple[list[tf.Tensor], Tensors]:
        """The weights that a task starts with: `start`, but for a head of its own classes.

        Args:
            task: its support set is used, and `way`, how many classes it has, if it tells.
            state: values of `model.non_trainable_variables`.
            training: whether dropout and the like are on.

        Returns:
            All trainable weights, and the state.
        """
        start, head = self.start, self.head
        if head is None:
            return start, state
        labels, features = task["support_labels"], None
        if head.kind == "prototypes":
            assert head.body is not None
            features, state, _ = self._pass(
                head.body, head.split(start)[0], state, task["support_images"], 0, "batch", 1.0, training
            )
        way = self.way if self.way else task["way"] if "way" in task else classes_of(labels, self.one_hot)
        for i, w in zip(head.positions, head.start(head.split(start)[1], features, labels, way), strict=True):
            start[i] = w
        return start, state

    def fast(self, weights: Tensors) -> list[tf.Tensor]:
        """Those of all trainable weights that the inner loop adapts."""
        return [weights[i] for i in self.adapted]

    @property
    def state(self) -> list[tf.Tensor]:
        """The non-trainable variables' values."""
        return [tf.convert_to_tensor(v) for v in self.model.non_trainable_variables]

    def weights(self, fast: Tensors, start: Tensors | None = None) -> list[tf.Tensor]:
        """All trainable weights: `start`, with the adapted ones replaced by `fast`."""
        weights = list(self.start if start is None else start)
        for i, w in zip(self.adapted, fast, strict=True):
            weights[i] = w
        return weights

    def outputs(
        self,
        weights: Tensors,
        state: Tensors,
        images: tf.Tensor,
        step: int | tf.Tensor,
        *,
        statistics: str,
        momentum: float | None = 1.0,
        training: bool = False,
    ) -> tuple[tf.Tensor, Tensors, tf.Tensor | None]:
        """One pass of the model.

        Args:
            weights: values of `model.trainable_variables`.
            state: values of `model.non_trainable_variables`.
            images: `[B, ...]`, or a dict or tuple of inputs.
            step, statistics, momentum: for the batch norms, see `step_context.inner_step`.
            training: whether dropout and the like are on.

        Returns:
            The outputs `[B, ...]`, in the weights' dtype, the new state, and what the pass adds to its loss: the sum
            of regularisers, activity regularisers and `add_loss`, a scalar; None where the model has none.
        """
        if self.any_way:
            assert self.head is not None
            _, outputs, state, added = self._parts(
                self.head, weights, state, images, step, statistics, momentum, training
            )
        else:
            outputs, state, added = self._pass(self.model, weights, state, images, step, statistics, momentum, training)
            check_width(self.model, outputs.shape[-1], self.way)  # a subclassed model shows its width only here
        dtype = weights[0].dtype
        total = tf.add_n([tf.reduce_sum(tf.cast(loss, dtype)) for loss in added]) if added else None
        cast = tf.cast(outputs, dtype)
        if hasattr(outputs, "_keras_mask"):
            cast._keras_mask = outputs._keras_mask  # which Keras's losses look at
        return cast, state, total

    @cached_property
    def last_layer(self) -> Head | None:
        """The dense layer that the model ends in, apart from its body; None where it ends in something else."""
        return last_layer(self.model, self.head)

    def features_and_outputs(
        self,
        weights: Tensors,
        state: Tensors,
        images: tf.Tensor,
        step: int | tf.Tensor,
        *,
        statistics: str,
        momentum: float | None = 1.0,
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        """`outputs` of a model with a `last_layer`, and before them the features `[B, F]` that this layer gets."""
        assert self.last_layer is not None
        features, outputs, state, _ = self._parts(
            self.last_layer, weights, state, images, step, statistics, momentum, False
        )
        return tf.cast(features, weights[0].dtype), tf.cast(outputs, weights[0].dtype), state

    def support_features(
        self, weights: Tensors, state: Tensors, images: tf.Tensor, step: int | tf.Tensor, statistics: str
    ) -> tuple[tf.Tensor, Tensors]:
        """The features of a support set, and the state with which queries have theirs.

        Args:
            weights, state, images, step: see `outputs`.
            statistics: of the queries, `batch`, `running` or `support`.
        """
        normalised_by = "running" if statistics == "running" else "batch"
        momentum = 0.0 if statistics == "support" else 1.0  # as `support_statistics` has it
        features, _, state = self.features_and_outputs(
            weights, state, images, step, statistics=normalised_by, momentum=momentum
        )
        return features, state

    def _parts(
        self, head: Head, weights: Tensors, state: Tensors, *arguments: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors, list[tf.Tensor]]:
        """`_pass` of the body and then the last layer: features, outputs, state, and each loss that was added."""
        assert head.body is not None
        body, last = head.split(weights)
        features, state, added = self._pass(head.body, body, state, *arguments)
        outputs = head(features, last)
        if hasattr(features, "_keras_mask"):
            outputs._keras_mask = features._keras_mask
        return features, outputs, state, [*added, *head.added(last)]

    def _pass(
        self,
        model: keras.Model,
        weights: Tensors,
        state: Tensors,
        images: tf.Tensor,
        step: int | tf.Tensor,
        statistics: str,
        momentum: float | None,
        training: bool,
    ) -> tuple[tf.Tensor, Tensors, list[tf.Tensor]]:
        """`outputs` of the model or its body, in its own dtype, with each loss that was added."""
        operations = nullcontext() if training else first_order_only()
        with inner_step(step, statistics, momentum), operations, _plain_errors(), seeded_draws_only(model.name):
            outputs, state, added = model.stateless_call(
                weights, state, images, return_losses=True, **training_argument(model, training)
            )
        return only_output(model, outputs), state, added

    def total_loss(self, labels: tf.Tensor, outputs: tf.Tensor, added: tf.Tensor | None) -> tf.Tensor:
        """The loss of a pass, with what the pass adds to it, as in Keras's own `fit` and `evaluate`."""
        loss = self.loss(labels, outputs)
        return loss if added is None else loss + added

    def support_statistics(
        self, weights: Tensors, state: Tensors, support_images: tf.Tensor, step: int | tf.Tensor, training: bool = False
    ) -> Tensors:
        """The state with the support set's own moments in place of the moving ones."""
        _, new_state, _ = self.outputs(
            weights, state, support_images, step, statistics="batch", momentum=0.0, training=training
        )
        return new_state

    def check_support_statistics(self) -> None:
        """Refuses, before anything is trained, what `support_statistics` would; of a model whose inputs are known.

        Raises:
            UserError: a batch norm is called more than once.
        """
        inputs = declared_inputs(self.model)
        if inputs is not None:
            statistics = tf.function(lambda x: self.support_statistics(self.start, self.state, x, 0), autograph=False)
            statistics.get_concrete_function(inputs)

    def query_outputs(
        self,
        fast: Tensors,
        state: Tensors,
        task: Task,
        step: int | tf.Tensor,
        *,
        statistics: str,
        training: bool = False,
        record: bool = False,
        start: Tensors | None = None,
    ) -> tuple[tf.Tensor, Tensors, tf.Tensor | None]:
        """`outputs` for the query set, normalised with `batch`, `running` or `support` statistics.

        `record` updates the moving statistics with the query set's.  With `support` they stay, and seeds move on.
        """
        weights, images = self.weights(fast, start), task["query_images"]
        if statistics == "support":
            of_support = self.support_statistics(weights, state, task["support_images"], step, training)
            passed = self.outputs(weights, of_support, images, step, statistics="running", training=training)
            outputs, last, added = passed
            return outputs, [new if new.dtype.is_integer else old for old, new in zip(state, last, strict=True)], added
        momentum = None if record else 1.0
        return self.outputs(weights, state, images, step, statistics=statistics, momentum=momentum, training=training)

    def step(
        self,
        fast: list[tf.Tensor],
        state: Tensors,
        task: Task,
        k: int | tf.Tensor,
        *,
        start: Tensors | None = None,
        rates: tf.Tensor | None = None,
        second_order: bool = False,
        checked: bool = False,
        training: bool = False,
        record: bool = False,
    ) -> tuple[list[tf.Tensor], Tensors]:
        """Inner step `k` on the support set: θ_{k+1} and the state.

        `record` updates the moving statistics; `start` and `rates` stand in for the learned weights and table;
        `checked` refuses, while it is traced, a gradient whose own derivative would be wrong.
        """
        support_loss = partial(self._support_loss, task=task, start=start, k=k, training=training, record=record)
        with traced_operations() as made, plain_recurrences(self.model) if second_order else nullcontext():
            with name_missing_derivatives(self.model):
                gradients, state = support_gradient(support_loss, fast, state, self.inner_scale)
        if checked:
            check_operations(self.model, made, fast, self.start if start is None else start, gradients)
        return descend(fast, self.rates.at(k, rates), gradients, second_order), state

    def adapt(
        self,
        task: Task,
        state: Tensors,
        steps: int,
        *,
        after_step: AfterStep | None = None,
        fast: list[tf.Tensor] | None = None,
    ) -> tuple[list[tf.Tensor], Tensors]:
        """The inner loop on the support set, as in evaluation and use: first order, no dropout, nothing is recorded.

        Args:
            task: its support set alone is used.
            state: values of `model.non_trainable_variables`.
            steps: how many.
            after_step: see `inner_loop.adapt`.
            fast: θ_0; None for those that `begin` gives.

        Returns:
            The fast weights and the state.
        """
        support_loss = partial(self._support_loss, task=task)
        if fast is None:
            start, state = self.begin(task, state)
            fast = self.fast(start)
        return adapt(support_loss, fast, state, self.rates, steps, False, after_step, self.inner_scale)

    def _support_loss(
        self,
        fast: list[tf.Tensor],
        state: Tensors,
        k: int | tf.Tensor,
        *,
        task: Task,
        start: Tensors | None = None,
        training: bool = False,
        record: bool = False,
    ) -> tuple[tf.Tensor, Tensors]:
        outputs, state, added = self.outputs(
            self.weights(fast, start),
            state,
            task["support_images"],
            k,
            statistics="batch",
            momentum=None if record else 1.0,
            training=training,
        )
        return self.total_loss(task["support_labels"], outputs, added), state


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Lets the text of a layer's UserError stand alone: Keras makes a new error of it, with the call's arguments."""
    try:
        yield
    except UserError as error:
        while isinstance(error.__context__, UserError):
            error = error.__context__
        raise error from None
