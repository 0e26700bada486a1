"""A Keras model as the inner loop sees it: a pure function of fast weights and state."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.inner_loop import AfterStep, adapt, update
from tf_mamlpp.inner_rates import InnerRates
from tf_mamlpp.layers import PerStepBatchNormalization, inner_step
from tf_mamlpp.second_order import not_needed

Task = Mapping[str, tf.Tensor]
Tensors = Sequence[tf.Tensor]
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def adapted_variables(model: keras.Model, adapted: str | Callable[[str], bool]) -> list[int]:
    """Which of `model.trainable_variables` the inner loop changes; never batch-norm weights (paper, section 4).

    Args:
        model: with its normalisation layers converted.  Layers with `trainable=False` are left alone.
        adapted: `all`, `head` (the last layer that has weights), `body` (all but the head), another string, a regular
            expression that is searched for in a variable's path (`conv4/conv0/kernel`), or a predicate on it.

    Raises:
        UserError: the choice leaves nothing, or is a head that is frozen.
    """
    excluded = {id(v) for layer in _batch_norms(model) for v in layer.trainable_variables}
    wanted = _choice(adapted, model)
    chosen = [i for i, v in enumerate(model.trainable_variables) if id(v) not in excluded and wanted(v)]
    if not chosen:
        raise UserError(
            f"adapted={adapted!r} leaves the inner loop no weight to change in model '{model.name}': it is all, head, "
            f"body, or matches paths such as '{model.trainable_variables[0].path}'"
        )
    return chosen


def _batch_norms(model: keras.Model) -> list[PerStepBatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, PerStepBatchNormalization)]


def _head(model: keras.Model) -> set[int]:
    """The ids of the weights of the last layer that has some, batch norms aside; it may be frozen."""
    # By identity: two layers of nested models may have one path.
    owners = {
        id(v): layer
        for layer in model._flatten_layers()
        if not isinstance(layer, PerStepBatchNormalization)
        for v in layer._trainable_variables
    }
    last = next((owners[id(v)] for v in reversed(model.weights) if id(v) in owners), None)
    return {id(v) for v in last._trainable_variables} if last else set()


def _choice(adapted: str | Callable[[str], bool], model: keras.Model) -> Callable[[keras.Variable], bool]:
    if callable(adapted):
        return lambda v: adapted(v.path)
    if not isinstance(adapted, str):
        raise UserError(
            f"adapted={adapted!r} is neither a string (all, head, body, an expression) nor a function of paths"
        )
    if adapted == "all":
        return lambda v: True
    if adapted in ("head", "body"):
        head = _head(model)
        if adapted == "head" and head and head.isdisjoint(map(id, model.trainable_variables)):
            raise UserError(f"the head of model '{model.name}', its last layer, is frozen: the inner loop needs it")
        return lambda v: (id(v) in head) == (adapted == "head")
    try:
        pattern = re.compile(adapted)
    except re.error as error:
        raise UserError(f"adapted={adapted!r} is no regular expression: {error}") from error
    return lambda v: bool(pattern.search(v.path))


def own_seeds(state: Tensors, task: tf.Tensor) -> list[tf.Tensor]:
    """The state with another seed in each task's seed generators, so that no two tasks drop the same units.

    `own_seeds(own_seeds(state, task), -task)` is `state`.
    """
    # Keras's seed generators keep two integers, the seed and a counter.  The odd number keeps neighbouring tasks away
    # from the neighbouring seeds that a user may give to layers.
    ahead = tf.stack([task * 65537, tf.zeros_like(task)])
    return [s + tf.cast(ahead, s.dtype) if s.dtype.is_integer and s.shape == (2,) else s for s in state]


class AdaptableModel:
    """Passes of a model with given weights, and the inner loop over them.  Writes no variable.

    "fast" are the adapted weights alone, "weights" all trainable ones, "state" the non-trainable ones (moving
    statistics, seeds), which each pass takes and returns.

    Args:
        model: owned by the learner.
        adapted: positions of the adapted ones in `model.trainable_variables`.
        rates: of the inner loop.
        loss: `(labels, outputs) -> scalar`, of the inner loop.
        way: the width that outputs must have; None for any.
        shared: positions of the weights whose first class (last axis) is copied to all classes at the start.
    """

    def __init__(
        self,
        model: keras.Model,
        adapted: Sequence[int],
        rates: InnerRates,
        loss: Loss,
        way: int | None = None,
        shared: Sequence[int] = (),
    ):
        self.model, self.adapted, self.rates, self.loss, self.way = model, list(adapted), rates, loss, way
        self.shared = frozenset(shared)
        self._paths = [v.path for v in model.trainable_variables]

    @property
    def start(self) -> list[tf.Tensor]:
        """The meta-learned values of all trainable weights."""
        if [v.path for v in self.model.trainable_variables] != self._paths:
            raise UserError(f"model '{self.model.name}': freeze layers before the model is given to MetaLearner")
        start = [tf.convert_to_tensor(v) for v in self.model.trainable_variables]
        return [tf.repeat(w[..., :1], w.shape[-1], -1) if i in self.shared else w for i, w in enumerate(start)]

    @property
    def fast(self) -> list[tf.Tensor]:
        """θ_0, the meta-learned start of the adapted weights."""
        start = self.start
        return [start[i] for i in self.adapted]

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
    ) -> tuple[tf.Tensor, Tensors]:
        """One pass at inner step `step`, see `layers.inner_step`; returns outputs and the new state."""
        with inner_step(step, statistics, momentum), nullcontext() if training else not_needed():
            outputs, state = self.model.stateless_call(weights, state, images, training=training)
        # A subclassed model shows its width only here, while the first graph is traced.
        if self.way and outputs.shape[-1] != self.way:
            raise UserError(
                f"model '{self.model.name}' has {outputs.shape[-1]} outputs for {self.way}-way tasks: "
                f"make its last layer {self.way} wide"
            )
        return tf.cast(outputs, weights[0].dtype), state

    def support_statistics(
        self, weights: Tensors, state: Tensors, support_images: tf.Tensor, step: int | tf.Tensor, training: bool = False
    ) -> Tensors:
        """The state with the support set's own moments in place of the moving ones."""
        _, own = self.outputs(weights, state, support_images, step, statistics="batch", momentum=0.0, training=training)
        return own

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
    ) -> tuple[tf.Tensor, Tensors]:
        """Outputs for the query set, normalised with `batch`, `running` or `support` statistics, and the state.

        `record` updates the moving statistics with the query set's.  With `support` they stay, and seeds move on.
        """
        weights, images = self.weights(fast, start), task["query_images"]
        if statistics == "support":
            own = self.support_statistics(weights, state, task["support_images"], step, training)
            outputs, last = self.outputs(weights, own, images, step, statistics="running", training=training)
            return outputs, [new if new.dtype.is_integer else old for old, new in zip(state, last, strict=True)]
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
        training: bool = False,
        record: bool = False,
    ) -> tuple[list[tf.Tensor], Tensors]:
        """Inner step `k` on the support set: θ_{k+1} and the state.

        `record` updates the moving statistics; `start` and `rates` stand in for the learned weights and table.
        """
        support_loss = partial(self._support_loss, task=task, start=start, training=training, record=record)
        return update(partial(support_loss, k=k), fast, state, self.rates.at(k, rates), second_order)

    def run(
        self, task: Task, state: Tensors, steps: int, *, after_step: AfterStep | None = None
    ) -> tuple[list[tf.Tensor], Tensors]:
        """The inner loop on the support set, as evaluation and use have it: nothing is recorded, no dropout."""
        support_loss = partial(self._support_loss, task=task)
        return adapt(support_loss, self.fast, state, self.rates, steps, second_order=False, after_step=after_step)

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
        outputs, state = self.outputs(
            self.weights(fast, start),
            state,
            task["support_images"],
            k,
            statistics="batch",
            momentum=None if record else 1.0,
            training=training,
        )
        return self.loss(task["support_labels"], outputs), state
