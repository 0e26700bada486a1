"""Losses and metrics as plain functions of labels and outputs."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.task import Loss


def mean_loss(loss: str | Loss | None, dtype: str) -> Loss:
    """A loss as its mean over everything but the tasks.

    Args:
        loss: a Keras loss, its name, or `(labels, outputs) -> [B]`; None for cross-entropy on logits.
        dtype: of the mean.

    Returns:
        `(labels, outputs) -> scalar`.

    Example:
        >>> loss = mean_loss("mean_squared_error", "float32")
        >>> float(loss(tf.constant([[1.0], [2.0]]), tf.constant([[1.0], [4.0]])))
        2.0
    """
    function = keras.losses.get(loss) if loss else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Called as a whole, a Keras Loss that takes a mean also divides by the number of replicas, which would shrink the
    # inner steps, and casts to its own dtype.
    if isinstance(function, keras.losses.Loss) and function.reduction in ("sum_over_batch_size", "mean"):
        function = function.call
    return mean_of(function, dtype)


def mean_of(function: Loss, dtype: str) -> Loss:
    """A function of labels and outputs as the mean of its values, in `dtype`.

    Example:
        >>> mean = mean_of(accuracy, "float32")
        >>> float(mean(tf.constant([0, 1]), tf.constant([[2.0, 1.0], [2.0, 1.0]])))
        0.5
    """
    return lambda labels, outputs: tf.cast(tf.reduce_mean(function(labels, outputs)), dtype)


def accuracy(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Which predictions are right.

    Args:
        labels: integers `[...]`, or with a last axis of one.
        outputs: logits or probabilities `[..., way]`.

    Returns:
        1 where the largest output is that of the label, else 0; `[...]`, in the dtype of the outputs.

    Example:
        >>> accuracy(tf.constant([0, 1]), tf.constant([[2.0, 1.0], [2.0, 1.0]])).numpy()
        array([1., 0.], dtype=float32)
    """
    # Keras's own goes by way of operations that `tf.vectorized_map` does not know.
    outputs = tf.convert_to_tensor(outputs)
    labels = tf.reshape(labels, tf.shape(outputs)[:-1])  # `[Q, 1]` too
    return tf.cast(tf.cast(tf.argmax(outputs, -1), labels.dtype) == labels, outputs.dtype)


def metric_function(metric: str | Loss | None) -> Loss:
    """A metric as a plain function.

    Args:
        metric: a function `(labels, outputs) -> [...]`, or the name of one in `keras.metrics`; None for `accuracy`.

    Raises:
        UserError: no such function.  A metric object keeps state, which would add up over tasks.

    Example:
        >>> metric_function("mean_squared_error") is keras.metrics.mean_squared_error
        True
    """
    # Not `keras.metrics.get`, which makes a stateful metric of a name.
    function = getattr(keras.metrics, metric, None) if isinstance(metric, str) else metric or accuracy
    if not callable(function) or isinstance(function, type):
        raise UserError(f"metric {metric!r} is not a function of keras.metrics, such as 'mean_squared_error'")
    return function
