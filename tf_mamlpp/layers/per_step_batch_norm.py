"""Batch normalisation with a row of weights and of statistics for each inner step: BNWB and BNRS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.convolution import convolved
from tf_mamlpp.layers.exact_norms import moments, scale_and_shift, wide_dtype
from tf_mamlpp.layers.second_order_ops import batch_normalise
from tf_mamlpp.layers.step_context import Pass, current_pass


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
        fused: computes with TensorFlow's fused operations where these apply; not for `tf.vectorized_map`
            (BUILD_NOTES.md).

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
        fused: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, not {inner_steps}")
        self.inner_steps = inner_steps
        self.per_step_weights = per_step_weights
        self.per_step_statistics = per_step_statistics
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale, self.fused = center, scale, fused

    def build(self, input_shape: Sequence[int | None]) -> None:
        axis = self.axis % len(input_shape)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(f"{self.name}: the size of axis {self.axis} must be known, got {tuple(input_shape)}")
        self._reduced = [i for i in range(len(input_shape)) if i != axis]
        last = axis == len(input_shape) - 1  # then `[C]` broadcasts as it is
        self._spread = None if last else [1 if i in self._reduced else channels for i in range(len(input_shape))]
        rows = (self.inner_steps,)
        weights = (*(rows if self.per_step_weights else ()), channels)
        statistics = (*(rows if self.per_step_statistics else ()), channels)
        # Not cast to half precision: moments are taken in float32 there.
        moving = {"shape": statistics, "trainable": False, "aggregation": "mean", "autocast": False}
        learned = {"shape": weights, "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **learned) if self.scale else None
        self.beta = self.add_weight(name="beta", initializer="zeros", **learned) if self.center else None
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **moving)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **moving)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        # A functional model's clone passes on the `mask=None` that its stock layer was called with.
        if mask is not None:
            raise UserError(f"layer '{self.name}': moments of masked inputs are not supported")
        now = current_pass.get()
        if now is None:
            now = Pass(self.inner_steps - 1, "batch" if training else "running", None if training else 1.0)
        if not self.trainable:  # frozen layers infer, as the stock one does
            now = Pass(now.step, "running", 1.0)
        made = None if self._spread else convolved(inputs)
        inputs = tf.cast(inputs, wide_dtype(inputs.dtype))
        last = self.inner_steps - 1
        row = min(now.step, last) if isinstance(now.step, int) else tf.minimum(now.step, last)
        momentum = self.momentum if now.momentum is None else now.momentum
        gamma, beta = (row_of(table, row, self.per_step_weights) for table in (self.gamma, self.beta))
        moving = [row_of(table, row, self.per_step_statistics) for table in (self.moving_mean, self.moving_variance)]
        outputs: tf.Tensor | None = None
        own: Sequence[Any] = moving
        if now.statistics == "batch" and momentum > 0 and made is None and self._is_fusible(inputs):
            outputs, *own = batch_normalise(inputs, gamma, beta, self.epsilon)
        elif now.statistics == "batch" or momentum < 1:
            own = made.moments(inputs.dtype) if made else moments(inputs, self._reduced)
        if momentum < 1:
            self._update(self.moving_mean, row, momentum, moving[0], own[0])
            self._update(self.moving_variance, row, momentum, moving[1], own[1])
        if outputs is None:
            mean, variance = own if now.statistics == "batch" else moving
            if self._spread:
                mean, variance, gamma, beta = (
                    None if v is None else tf.reshape(v, self._spread) for v in (mean, variance, gamma, beta)
                )
            scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
            outputs = made.affine(scale, shift) if made else inputs * scale + shift
        return tf.cast(outputs, self.compute_dtype)

    def _is_fusible(self, inputs: tf.Tensor) -> bool:
        return (
            self.fused
            and inputs.dtype == tf.float32
            and len(inputs.shape) == 4
            and not self._spread
            and self.gamma is not None
            and self.beta is not None
        )

    def _update(self, table: Any, row: int | tf.Tensor, momentum: float, old: tf.Tensor, batch: tf.Tensor) -> None:
        # With momentum 0 the statistics are an answer that gradients flow through; else a record that they must not.
        new = batch if momentum == 0 else momentum * old + (1 - momentum) * tf.stop_gradient(batch)
        if self.per_step_statistics:
            new = tf.tensor_scatter_nd_update(tf.convert_to_tensor(table), [[row]], new[tf.newaxis])
        table.assign(new)

    def get_config(self) -> dict[str, Any]:
        names = (
            "inner_steps",
            "per_step_weights",
            "per_step_statistics",
            "axis",
            "momentum",
            "epsilon",
            "center",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, "scale", "fused")}}


def row_of(table: Any, row: int | tf.Tensor, per_step: bool) -> tf.Tensor | None:
    if table is None:
        return None
    table = tf.convert_to_tensor(table)
    return table[row] if per_step else table
