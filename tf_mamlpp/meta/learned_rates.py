"""The inner loop's learning rates, learned or fixed: LSLR and Meta-SGD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_mamlpp")
class LearnedRates(keras.layers.Layer):
    """The inner loop's rates, in one table: a row for each adapted tensor or weight, a column for each inner step.

    One rate for each tensor and step is LSLR ("How to train your MAML", section 4); one for each weight that all
    steps share is Meta-SGD (Li et al., arXiv 1707.09835).

    Args:
        tensors: how many tensors are adapted.
        inner_steps: columns of the table; later steps use the last.
        rate: the starting value of every entry.
        learned: whether the outer loop trains them; they may turn negative.
        shapes: of the adapted tensors, if every weight is to have a row of its own.

    Example:
        >>> rates = LearnedRates(tensors=2, inner_steps=5, rate=0.1)
        >>> rates.table.shape, len(rates.at(step=3))
        (TensorShape([2, 5]), 2)
    """

    def __init__(
        self,
        tensors: int,
        inner_steps: int,
        rate: float,
        learned: bool = True,
        shapes: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._shapes = tuple(map(tuple, shapes)) if shapes is not None else ((),) * tensors
        self._rows = tuple(map(math.prod, self._shapes))
        self.table = self.add_weight(
            name="rates",
            shape=(sum(self._rows), inner_steps),
            # `Constant` would round a float64 rate to float32.
            initializer=lambda shape, dtype: tf.fill(shape, tf.constant(rate, dtype)),
            trainable=learned,
        )
        self.built = True

    def at(self, step: int | tf.Tensor, table: tf.Tensor | None = None) -> list[tf.Tensor]:
        """The rates of inner step `step`: for each adapted tensor a scalar, or one of its shape.

        `table` stands in for the learned one.
        """
        table = tf.convert_to_tensor(self.table if table is None else table)
        last = table.shape[1] - 1
        column = table[:, min(step, last) if isinstance(step, int) else tf.minimum(step, last)]
        parts = tf.split(column, self._rows)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def means(self) -> tf.Tensor:
        """`[tensors, inner_steps]`, each tensor's mean rate."""
        return tf.stack([tf.reduce_mean(rows, 0) for rows in tf.split(self.table.value, self._rows)])
