"""Predictions averaged over orders of the classes, none of which means anything (UNICORN-MAML)."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task_map import task_map


def mean_over_rotations(
    curve: Callable[[tf.Tensor], tf.Tensor],
    labels: tf.Tensor,
    permutations: int,
    way: int,
    kind: OutputKind,
    dtype: str,
) -> tf.Tensor:
    """Outputs of the kind of a model's, whose probabilities are the mean over rotations of the classes' order.

    Args:
        curve: from support labels to outputs `[..., way]`.
        labels: of the support set.
        permutations: how many rotations, from none on.
        way: classes of a task.
        kind: of the outputs: one choice of classes.
        dtype: of the outputs.

    Returns:
        As `curve`; of logits the logarithms of the mean probabilities.

    Example:
        >>> curve = lambda labels: tf.one_hot(labels, 2)  # whatever the order, the same
        >>> mean_over_rotations(curve, tf.constant([0, 1]), 2, 2, OutputKind(probabilities=True), "float32").numpy()
        array([[1., 0.],
               [0., 1.]], dtype=float32)

    References:
        Ye, Chao, "How to Train Your MAML to Excel in Few-Shot Classification", arXiv 2106.16245, section 4.
    """

    def rotated(shift: tf.Tensor) -> tf.Tensor:
        outputs = curve(rotated_labels(labels, shift, way))
        return tf.roll(outputs if kind.probabilities else tf.nn.log_softmax(outputs), -shift, axis=-1)

    curves = task_map(rotated, tf.range(permutations), dtype)
    if kind.probabilities:
        return tf.reduce_mean(curves, 0)
    return tf.reduce_logsumexp(curves, 0) - math.log(permutations)


def rotated_labels(labels: tf.Tensor, shift: tf.Tensor, way: int) -> tf.Tensor:
    """Labels of the same pictures when each class is called by the number `shift` after its own, modulo `way`.

    Args:
        labels: integers of any shape, or one number for each class, `[S, way]`.

    Example:
        >>> rotated_labels(tf.constant([0, 1, 2]), tf.constant(1), 3).numpy()
        array([1, 2, 0], dtype=int32)
        >>> rotated_labels(tf.constant([[0.25, 0.75, 0.0]]), tf.constant(1), 3).numpy()
        array([[0.  , 0.25, 0.75]], dtype=float32)
    """
    if labels.shape.rank == 2 and labels.shape[-1] == way:
        return tf.roll(labels, shift, axis=-1)
    return (labels + tf.cast(shift, labels.dtype)) % way
