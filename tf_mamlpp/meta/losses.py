"""Losses, and the default metrics, as plain functions of one task's labels and outputs."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.meta.task import Loss


def mean_loss(loss: str | Loss, dtype: str) -> Loss:
    """A loss as its mean over everything but the tasks; a Keras loss that sums stays a sum.

    Args:
        loss: a Keras loss, its name, or `(labels, outputs) -> [B]`.
        dtype: of the mean.

    Returns:
        `(labels, outputs) -> scalar`.

    Example:
        >>> loss = mean_loss("mean_squared_error", "float32")
        >>> float(loss(tf.constant([1.0, 2.0]), tf.constant([[1.0], [4.0]])))
        2.0
    """
    function = keras.losses.get(loss)
    if not isinstance(function, keras.losses.Loss):
        return mean_of(with_matched_shapes(function), dtype)
    # Called as a whole, a Keras Loss that takes a mean also divides by the number of replicas, which would shrink the
    # inner steps, and casts to its own dtype.  Keras matches the shapes of its own losses inside `call`.
    return mean_of(function.call, dtype, function.reduction == "sum")


def mean_of(function: Loss, dtype: str, is_sum: bool = False) -> Loss:
    """A function of labels and outputs as the mean of its values, or their sum, in `dtype`.

    What Keras masks (`ignore_class`, the steps that an `Embedding` masks) does not count, as in Keras.

    Example:
        >>> mean = mean_of(accuracy, "float32")
        >>> float(mean(tf.constant([0, 1]), tf.constant([[2.0, 1.0], [2.0, 1.0]])))
        0.5
    """

    def reduced(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        values = function(labels, outputs)
        masks = [m for m in (getattr(t, "_keras_mask", None) for t in (outputs, values)) if m is not None]
        if not masks or not values.shape.rank:
            return tf.cast(tf.reduce_sum(values) if is_sum else tf.reduce_mean(values), dtype)
        counted = tf.reduce_all(tf.stack([tf.broadcast_to(m, tf.shape(values)) for m in masks]), 0)
        total = tf.reduce_sum(tf.where(counted, values, tf.zeros_like(values)))
        count = tf.reduce_sum(tf.cast(counted, values.dtype))
        return tf.cast(total if is_sum else tf.math.divide_no_nan(total, count), dtype)

    return reduced


def match_shapes(labels: Any, outputs: Any) -> tuple[Any, Any]:
    """Labels and outputs of one rank, as Keras makes them: an axis of length 1 at the end is added or dropped.

    Args:
        labels, outputs: tensors; others than of one rank more or less stay.

    Example:
        >>> labels, outputs = match_shapes(tf.zeros(4), tf.zeros((4, 1)))  # `[4, 4]` would come of `labels - outputs`
        >>> labels.shape, outputs.shape
        (TensorShape([4, 1]), TensorShape([4, 1]))
    """
    more = len(outputs.shape) - len(labels.shape)
    if more == -1 and labels.shape[-1] == 1:
        outputs, labels = match_shapes(outputs, labels)
    elif more == 1 and outputs.shape[-1] == 1:
        if len(labels.shape) == 1:
            return tf.expand_dims(labels, -1), outputs
        return labels, tf.squeeze(outputs, -1)
    return labels, outputs


def with_matched_shapes(function: Loss) -> Loss:
    """A function of labels and outputs, called with `match_shapes` of them.

    Example:
        >>> difference = with_matched_shapes(lambda labels, outputs: labels - outputs)
        >>> difference(tf.zeros(4), tf.zeros((4, 1))).shape
        TensorShape([4, 1])
    """
    return lambda labels, outputs: function(*match_shapes(labels, outputs))


def accuracy(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Which predictions are right, where one class is.

    Args:
        labels: integers `[...]`, or with a last axis of one; or one number for each class, `[..., way]`.
        outputs: logits or probabilities `[..., way]`.

    Returns:
        1 where the largest output is that of the label, else 0; `[...]`, in the dtype of the outputs.

    Example:
        >>> accuracy(tf.constant([0, 1]), tf.constant([[2.0, 1.0], [2.0, 1.0]])).numpy()
        array([1., 0.], dtype=float32)
        >>> accuracy(tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[2.0, 1.0], [2.0, 1.0]])).numpy()
        array([1., 0.], dtype=float32)
    """
    # Keras's own goes by way of operations that `tf.vectorized_map` does not know.
    outputs, labels = tf.convert_to_tensor(outputs), tf.convert_to_tensor(labels)
    if labels.shape.rank == outputs.shape.rank and labels.shape[-1] == outputs.shape[-1] != 1:
        labels = tf.argmax(labels, -1)
    labels = tf.reshape(labels, tf.shape(outputs)[:-1])  # `[Q, 1]` too
    return tf.cast(tf.cast(tf.argmax(outputs, -1), labels.dtype) == labels, outputs.dtype)


def answers_right(labels: tf.Tensor, outputs: tf.Tensor, threshold: float = 0.0) -> tf.Tensor:
    """The part of the outputs that are right, where each is a yes or no of its own.

    Args:
        labels: 0 or 1, of the outputs' shape.
        outputs: yes above the threshold.

    Example:
        >>> answers_right(tf.constant([[1, 0], [1, 1]]), tf.constant([[2.0, -1.0], [2.0, -1.0]])).numpy()
        array([1. , 0.5], dtype=float32)
    """
    labels, outputs = match_shapes(labels, outputs)
    is_right = (outputs > threshold) == (tf.cast(labels, outputs.dtype) > 0.5)
    return tf.reduce_mean(tf.cast(is_right, outputs.dtype), -1)
