"""Normalisation layers whose second derivatives are right, and the conversion of stock Keras layers to them.

`tf.nn.moments`, which the stock layers use, stops the gradient of the mean inside the variance: harmless
to first derivatives, wrong in second ones, which MAML needs.  Every layer here takes its moments with
`moments` below instead.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class _Pass:
    """What one pass through the model asks of its batch norms; see `inner_step`."""

    step: int
    statistics: str
    momentum: float | None


_current_pass: contextvars.ContextVar[_Pass | None] = contextvars.ContextVar("inner_step", default=None)


@contextlib.contextmanager
def inner_step(step: int, statistics: str = "batch", momentum: float | None = None) -> Iterator[None]:
    """Tells every `PerStepBatchNormalization` called inside which inner step this pass belongs to.

    Args:
        step: the inner step, 0-based; steps past a layer's last row use that row.
        statistics: `batch` normalises with the batch's own moments, `running` with the moving ones.
        momentum: of the moving statistics' update: None for the layer's own, 0 to replace them by the
            batch's (differentiably), 1 to leave them alone.
    """
    token = _current_pass.set(_Pass(step, statistics, momentum))
    try:
        yield
    finally:
        _current_pass.reset(token)


def moments(x: tf.Tensor, axes: Sequence[int], keepdims: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance over `axes`, exact to every order of derivative."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return (mean if keepdims else tf.squeeze(mean, axes)), variance


def normalise(
    x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, gamma: Any, beta: Any, epsilon: float
) -> tf.Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, as one multiplication and one addition."""
    scale = tf.math.rsqrt(variance + epsilon)
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale
    if beta is not None:
        shift += beta
    return x * scale + shift


@keras.saving.register_keras_serializable("tf_mamlpp")
class PerStepBatchNormalization(keras.layers.Layer):
    """Batch normalisation with a row of weights and of moving statistics for each inner step.

    The paper's BNWB (per-step weights) and BNRS (per-step statistics), section 4.  Row k serves the
    support pass of inner step k and the query pass after it.  Outside `inner_step` the layer acts as
    the stock one does, with its last row.

    Args:
        inner_steps: rows of the tables.
        per_step_weights: gamma and beta are `[inner_steps, C]` instead of `[C]`.
        per_step_statistics: moving mean and variance are `[inner_steps, C]` instead of `[C]`.
        axis, momentum, epsilon, center, scale: as in `keras.layers.BatchNormalization`.

    References:
        Antoniou, Edwards, Storkey, "How to train your MAML", arXiv 1810.09502, section 4.
        Ioffe, Szegedy, "Batch Normalization", arXiv 1502.03167.
    """

    def __init__(
        self,
        inner_steps: int,
        per_step_weights: bool = True,
        per_step_statistics: bool = True,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, not {inner_steps}")
        self.inner_steps = inner_steps
        self.per_step_weights = per_step_weights
        self.per_step_statistics = per_step_statistics
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale = center, scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        axis = self.axis % len(input_shape)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(f"{self.name}: the size of axis {self.axis} must be known, got {tuple(input_shape)}")
        self._reduced = [i for i in range(len(input_shape)) if i != axis]
        self._broadcast = [1 if i in self._reduced else channels for i in range(len(input_shape))]
        rows = (self.inner_steps,)
        weights = (*(rows if self.per_step_weights else ()), channels)
        statistics = (*(rows if self.per_step_statistics else ()), channels)
        moving = {"shape": statistics, "trainable": False, "aggregation": "mean"}
        self.gamma = self.add_weight(name="gamma", shape=weights, initializer="ones") if self.scale else None
        self.beta = self.add_weight(name="beta", shape=weights, initializer="zeros") if self.center else None
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **moving)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **moving)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        now = _current_pass.get()
        if now is None:
            now = _Pass(self.inner_steps - 1, "batch" if training else "running", None if training else 1.0)
        row = min(now.step, self.inner_steps - 1)
        momentum = self.momentum if now.momentum is None else now.momentum
        mean = _row(self.moving_mean, row, self.per_step_statistics)
        variance = _row(self.moving_variance, row, self.per_step_statistics)
        if now.statistics == "batch" or momentum < 1:
            batch_mean, batch_variance = moments(inputs, self._reduced)
            if momentum < 1:
                self._update(self.moving_mean, row, momentum, mean, batch_mean)
                self._update(self.moving_variance, row, momentum, variance, batch_variance)
            if now.statistics == "batch":
                mean, variance = batch_mean, batch_variance
        gamma, beta = (_row(table, row, self.per_step_weights) for table in (self.gamma, self.beta))
        spread = [None if v is None else self._spread(v) for v in (mean, variance, gamma, beta)]
        return normalise(inputs, *spread, self.epsilon)

    def _spread(self, vector: tf.Tensor) -> tf.Tensor:
        """`[C]` in the shape that broadcasts along the channel axis, where that is not the last."""
        return vector if self._broadcast[-1] != 1 or len(vector.shape) != 1 else tf.reshape(vector, self._broadcast)

    def _update(self, table: Any, row: int, momentum: float, old: tf.Tensor, batch: tf.Tensor) -> None:
        # With momentum 0 the statistics are an answer that gradients flow through; else a record that they must not.
        new = batch if momentum == 0 else momentum * old + (1 - momentum) * tf.stop_gradient(batch)
        if self.per_step_statistics:
            new = tf.tensor_scatter_nd_update(tf.convert_to_tensor(table), [[row]], new[tf.newaxis])
        table.assign(new)

    def get_config(self) -> dict[str, Any]:
        names = ("inner_steps", "per_step_weights", "per_step_statistics", "axis", "momentum", "epsilon", "center")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, "scale")}}


def _row(table: Any, row: int, per_step: bool) -> tf.Tensor | None:
    if table is None:
        return None
    table = tf.convert_to_tensor(table)
    return table[row] if per_step else table
