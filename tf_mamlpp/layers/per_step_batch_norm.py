"""Batch normalisation with a row of weights and of statistics for each inner step: BNWB and BNRS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.layers.exact_norms import masked_moments, moments, scale_and_shift, wide_dtype
from tf_mamlpp.layers.moving_statistics import before_pass, moved
from tf_mamlpp.layers.second_order_ops import batch_normalise
from tf_mamlpp.layers.step_context import Pass, convolution_of, current_pass


@keras.saving.register_keras_serializable("tf_mamlpp")
class PerStepBatchNormalization(keras.layers.Layer):
    """Batch normalisation with a row of weights and of moving statistics for each inner step.

    The paper's BNWB (per-step weights) and BNRS (per-step statistics), section 4.  Row k serves the
    support pass of inner step k and the query pass after it.  Outside `inner_step` the layer acts as
    the stock one does, with its last row.  What is masked counts for nothing, as there.

    Args:
        inner_steps: rows of the tables.
        per_step_weights: gamma and beta are `[inner_steps, C]` instead of `[C]`.
        per_step_statistics: moving mean and variance are `[inner_steps, C]` instead of `[C]`.
        axis, momentum, epsilon, center, scale: as in `keras.layers.BatchNormalization`.
        beta_regularizer, gamma_regularizer: as there, of the row that the pass takes.
        fused: computes with TensorFlow's fused operations where these apply; not for `tf.vectorized_map`
            (BUILD_NOTES.md).

    Raises:
        ValueError: `inner_steps` below 1, or, when it is built, an axis of unknown size.

    Example:
        >>> layer = PerStepBatchNormalization(inner_steps=5)
        >>> layer(tf.ones((4, 8, 8, 3)), training=True).shape, layer.gamma.shape
        (TensorShape([4, 8, 8, 3]), TensorShape([5, 3]))

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
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        if inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, not {inner_steps}")
        self.inner_steps = inner_steps
        self.per_step_weights = per_step_weights
        self.per_step_statistics = per_step_statistics
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale, self.fused = center, scale, fused
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)

    def build(self, input_shape: Sequence[int | None]) -> None:
        axis = self.axis % len(input_shape)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(f"{self.name}: the size of axis {self.axis} must be known, got {tuple(input_shape)}")
        self._reduced = [i for i in range(len(input_shape)) if i != axis]
        self.has_channels_last = axis == len(input_shape) - 1  # then `[C]` broadcasts as it is
        self._channel_shape = [1 if i in self._reduced else channels for i in range(len(input_shape))]
        rows = (self.inner_steps,)
        weights = (*(rows if self.per_step_weights else ()), channels)
        statistics = (*(rows if self.per_step_statistics else ()), channels)
        # Not cast to half precision: moments are taken in float32 there.
        moving = {"shape": statistics, "trainable": False, "aggregation": "mean", "autocast": False}
        self.gamma = self._add_table("gamma", "ones", weights, self.gamma_regularizer) if self.scale else None
        self.beta = self._add_table("beta", "zeros", weights, self.beta_regularizer) if self.center else None
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **moving)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **moving)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        this_pass = self._this_pass(training)
        convolved = convolution_of(inputs) if self.has_channels_last and mask is None else None
        inputs = tf.cast(inputs, wide_dtype(inputs.dtype))
        row = self._row(this_pass.step)
        momentum = self.momentum if this_pass.momentum is None else this_pass.momentum
        gamma, beta = (row_of(table, row, self.per_step_weights) for table in (self.gamma, self.beta))
        moving = [row_of(table, row, self.per_step_statistics) for table in (self.moving_mean, self.moving_variance)]
        by_batch = this_pass.statistics == "batch"
        outputs: tf.Tensor | None = None
        batch: Sequence[Any] = ()
        if by_batch and momentum > 0 and convolved is None and mask is None and self._is_fusible(inputs):
            outputs, *batch = batch_normalise(inputs, gamma, beta, self.epsilon)
        elif by_batch or momentum < 1:
            batch = self._moments(inputs, convolved, mask)
        if momentum < 1:
            self.update(self.moving_mean, row, momentum, moving[0], batch[0])
            self.update(self.moving_variance, row, momentum, moving[1], batch[1])
        if outputs is None:
            mean, variance = batch if by_batch else map(before_pass, (self.moving_mean, self.moving_variance), moving)
            outputs = self._normalised(inputs, convolved, mean, variance, gamma, beta)
        return tf.cast(outputs, self.compute_dtype)

    def _moments(self, inputs: tf.Tensor, convolved: Any, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if mask is not None:
            return masked_moments(inputs, mask, self._reduced)
        return convolved.moments(inputs.dtype) if convolved else moments(inputs, self._reduced)

    def _this_pass(self, training: bool | None) -> Pass:
        """What is asked of this layer: by `inner_step`, or as a stock layer is asked."""
        asked = current_pass.get()
        if asked is None:
            asked = Pass(self.inner_steps - 1, "batch" if training else "running", None if training else 1.0)
        # Frozen layers infer, as the stock one does.
        return asked if self.trainable else Pass(asked.step, "running", 1.0)

    def _row(self, step: int | tf.Tensor) -> int | tf.Tensor:
        last = self.inner_steps - 1
        return min(step, last) if isinstance(step, int) else tf.minimum(step, last)

    def _add_table(self, name: str, initializer: str, shape: Sequence[int], regularizer: Any) -> Any:
        def of_row(table: Any) -> Any:
            return regularizer(row_of(table, self._row(self._this_pass(None).step), self.per_step_weights))

        return self.add_weight(
            name=name,
            initializer=initializer,
            shape=shape,
            regularizer=of_row if regularizer else None,
            autocast=False,
        )

    def _normalised(
        self, inputs: tf.Tensor, convolved: Any, mean: tf.Tensor, variance: tf.Tensor, gamma: Any, beta: Any
    ) -> tf.Tensor:
        if not self.has_channels_last:
            mean, variance, gamma, beta = (
                None if v is None else tf.reshape(v, self._channel_shape) for v in (mean, variance, gamma, beta)
            )
        scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
        return convolved.affine(scale, shift) if convolved else inputs * scale + shift

    def _is_fusible(self, inputs: tf.Tensor) -> bool:
        return (
            self.fused
            and inputs.dtype == tf.float32
            and len(inputs.shape) == 4
            and self.has_channels_last
            and self.gamma is not None
            and self.beta is not None
        )

    def update(self, table: Any, row: int | tf.Tensor, momentum: float, old: tf.Tensor, batch: tf.Tensor) -> None:
        """Moves a row of moving statistics towards those of a batch.

        Args:
            table: `moving_mean` or `moving_variance`.
            row: of the inner step.
            momentum, old, batch: see `moving_statistics.moved`.

        Raises:
            UserError: see there.
        """
        new = moved(self.name, table, momentum, old, batch)
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
            "scale",
            "fused",
        )
        regularizers = {
            name: keras.regularizers.serialize(getattr(self, name))
            for name in ("beta_regularizer", "gamma_regularizer")
        }
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, **regularizers}


def row_of(table: Any, row: int | tf.Tensor, per_step: bool) -> tf.Tensor | None:
    """The row of an inner step in a table of `PerStepBatchNormalization`.

    Args:
        table: a variable `[inner_steps, C]` or `[C]`, or None.
        row: of the inner step.
        per_step: whether the table has a row for each step.

    Returns:
        `[C]`; None for no table.

    Example:
        >>> row_of(tf.constant([[1.0, 2.0], [3.0, 4.0]]), 1, per_step=True).numpy()
        array([3., 4.], dtype=float32)
    """
    if table is None:
        return None
    table = tf.convert_to_tensor(table)
    return table[row] if per_step else table
