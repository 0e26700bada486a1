"""A Keras model as the inner loop sees it: a pure function of fast weights and state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.inner_loop import AfterStep, adapt
from tf_mamlpp.inner_rates import InnerRates
from tf_mamlpp.layers import PerStepBatchNormalization, inner_step

Task = Mapping[str, tf.Tensor]
Tensors = Sequence[tf.Tensor]
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def adapted_variables(model: keras.Model, adapted: str | Callable[[str], bool]) -> list[int]:
    """Which of `model.trainable_variables` the inner loop changes; never batch-norm weights (paper, section 4).

    Args:
        model: with its normalisation layers converted.
        adapted: `all`, `head` (the last layer that has weights), or a predicate on a variable's path.

    Raises:
        UserError: the choice is unknown or leaves nothing.
    """
    excluded = {id(v) for layer in _batch_norms(model) for v in layer.trainable_variables}
    wanted = _predicate(adapted, model)
    chosen = [i for i, v in enumerate(model.trainable_variables) if id(v) not in excluded and wanted(v.path)]
    if not chosen:
        raise UserError(f"adapted={adapted!r} leaves the inner loop no weight to change in model '{model.name}'")
    return chosen


def _batch_norms(model: keras.Model) -> list[PerStepBatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, PerStepBatchNormalization)]


def _predicate(adapted: str | Callable[[str], bool], model: keras.Model) -> Callable[[str], bool]:
    if callable(adapted):
        return adapted
    if adapted == "all":
        return lambda path: True
    if adapted == "head":
        norms = {id(v) for layer in _batch_norms(model) for v in layer.trainable_variables}
        last = [v for v in model.trainable_variables if id(v) not in norms][-1].path.rpartition("/")[0]
        return lambda path: path.rpartition("/")[0] == last
    raise UserError(f"adapted is 'all', 'head' or a predicate on a variable's path, not {adapted!r}")


def own_seeds(state: Tensors, task: tf.Tensor) -> list[tf.Tensor]:
    """The state with another counter in each task's seed generators, so that no two tasks drop the same units."""
    # Keras's seed generators keep two integers, the seed and a counter.
    ahead = tf.stack([tf.zeros_like(task), task * 65536])
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
    """

    def __init__(
        self, model: keras.Model, adapted: Sequence[int], rates: InnerRates, loss: Loss, way: int | None = None
    ):
        self.model, self.adapted, self.rates, self.loss, self.way = model, list(adapted), rates, loss, way

    @property
    def fast(self) -> list[tf.Tensor]:
        """θ_0, the meta-learned start of the adapted weights."""
        return [tf.convert_to_tensor(self.model.trainable_variables[i]) for i in self.adapted]

    @property
    def state(self) -> list[tf.Tensor]:
        """The non-trainable variables' values."""
        return [tf.convert_to_tensor(v) for v in self.model.non_trainable_variables]

    def weights(self, fast: Tensors) -> list[tf.Tensor]:
        """All trainable weights, with the adapted ones replaced by `fast`."""
        weights = [v.value for v in self.model.trainable_variables]
        for i, w in zip(self.adapted, fast, strict=True):
            weights[i] = w
        return weights

    def outputs(
        self,
        weights: Tensors,
        state: Tensors,
        images: tf.Tensor,
        step: int,
        *,
        statistics: str,
        momentum: float | None = 1.0,
        training: bool = False,
    ) -> tuple[tf.Tensor, Tensors]:
        """One pass at inner step `step`, see `layers.inner_step`; returns outputs and the new state."""
        with inner_step(step, statistics, momentum):
            outputs, state = self.model.stateless_call(weights, state, images, training=training)
        # A subclassed model shows its width only here, while the first graph is traced.
        if self.way and outputs.shape[-1] != self.way:
            raise UserError(
                f"model '{self.model.name}' has {outputs.shape[-1]} outputs for {self.way}-way tasks: "
                f"make its last layer {self.way} wide"
            )
        return outputs, state

    def support_statistics(
        self, weights: Tensors, state: Tensors, support_images: tf.Tensor, step: int, training: bool = False
    ) -> Tensors:
        """The state with the support set's own moments in place of the moving ones."""
        _, own = self.outputs(weights, state, support_images, step, statistics="batch", momentum=0.0, training=training)
        return own

    def query_outputs(
        self,
        fast: Tensors,
        state: Tensors,
        task: Task,
        step: int,
        *,
        statistics: str,
        training: bool = False,
        record: bool = False,
    ) -> tuple[tf.Tensor, Tensors]:
        """Outputs for the query set, normalised with `batch`, `running` or `support` statistics, and the state.

        `record` updates the moving statistics with the query set's.
        """
        weights, images = self.weights(fast), task["query_images"]
        if statistics == "support":
            own = self.support_statistics(weights, state, task["support_images"], step, training)
            return self.outputs(weights, own, images, step, statistics="running", training=training)[0], state
        momentum = None if record else 1.0
        return self.outputs(weights, state, images, step, statistics=statistics, momentum=momentum, training=training)

    def run(
        self,
        task: Task,
        state: Tensors,
        steps: int,
        *,
        second_order: bool = False,
        training: bool = False,
        recorded: Sequence[int] = (),
        after_step: AfterStep | None = None,
    ) -> tuple[list[tf.Tensor], Tensors]:
        """The inner loop on the support set; passes of the steps in `recorded` update the moving statistics."""

        def support_loss(fast: list[tf.Tensor], state: Tensors, k: int) -> tuple[tf.Tensor, Tensors]:
            outputs, state = self.outputs(
                self.weights(fast),
                state,
                task["support_images"],
                k,
                statistics="batch",
                momentum=None if k in recorded else 1.0,
                training=training,
            )
            return self.loss(task["support_labels"], outputs), state

        return adapt(support_loss, self.fast, state, self.rates, steps, second_order, after_step)
