"""Losses and metrics as functions of labels and outputs."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.task import Loss


def mean_loss(loss: str | Loss | None, dtype: str) -> Loss:
    """A Keras loss or its name (None: cross-entropy on logits), averaged over everything but the tasks, in `dtype`."""
    function = keras.losses.get(loss) if loss else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Called as a whole, a Keras Loss that takes a mean also divides by the number of replicas, which would shrink the
    # inner steps, and casts to its own dtype.
    if isinstance(function, keras.losses.Loss) and function.reduction in ("sum_over_batch_size", "mean"):
        function = function.call
    return mean_of(function, dtype)


def mean_of(function: Loss, dtype: str) -> Loss:
    return lambda labels, outputs: tf.cast(tf.reduce_mean(function(labels, outputs)), dtype)


def accuracy(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """1 where the largest of `outputs` `[..., way]` is that of its label, else 0, `[...]`."""
    # Keras's own goes by way of operations that `tf.vectorized_map` does not know.
    outputs = tf.convert_to_tensor(outputs)
    labels = tf.reshape(labels, tf.shape(outputs)[:-1])  # `[Q, 1]` too
    return tf.cast(tf.cast(tf.argmax(outputs, -1), labels.dtype) == labels, outputs.dtype)


def metric_function(metric: str | Loss) -> Loss:
    # Keras's `get` makes a stateful metric of a name.
    function = getattr(keras.metrics, metric, None) if isinstance(metric, str) else metric
    if not callable(function) or isinstance(function, type):
        raise UserError(f"metric {metric!r} is not a function of keras.metrics, such as 'mean_squared_error'")
    return function
