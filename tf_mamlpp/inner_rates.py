"""The inner loop's learning rates and its pure update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_mamlpp")
class InnerRates(keras.layers.Layer):
    """One rate for each adapted tensor and inner step (LSLR, "How to train your MAML", section 4).

    Args:
        tensors: how many tensors are adapted.
        inner_steps: columns of the table; later steps use the last.
        rate: the starting value of every entry.
        learned: whether the outer loop trains them; they may turn negative.
    """

    def __init__(self, tensors: int, inner_steps: int, rate: float, learned: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.table = self.add_weight(
            name="rates",
            shape=(tensors, inner_steps),
            # `Constant` would round a float64 rate to float32.
            initializer=lambda shape, dtype: tf.fill(shape, tf.constant(rate, dtype)),
            trainable=learned,
        )
        self.built = True

    def at(self, step: int) -> list[tf.Tensor]:
        """The scalar rates of inner step `step`, one for each adapted tensor."""
        table = tf.convert_to_tensor(self.table)
        return tf.unstack(table[:, min(step, table.shape[1] - 1)])


def descend(
    weights: Sequence[tf.Tensor], rates: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """θ_{k+1} = θ_k - α ∇L: the inner update, tensor by tensor."""
    return [w - rate * g for w, rate, g in zip(weights, rates, gradients, strict=True)]
