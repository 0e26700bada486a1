"""What part of a meta-batch a replica has got: the tasks need not divide over the replicas."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_mamlpp.meta.task import Task


class Share(NamedTuple):
    """The part of one replica.

    Attributes:
        tasks: its tasks; one of zeros, which does not count, where it got none.
        count: how many it got.
        first: number of its first task in the whole meta-batch.
        even: how many tasks each replica would have, were they divided evenly.

    Example:
        >>> share = Share({}, count=tf.constant(1), first=tf.constant(2), even=tf.constant(1.5))
        >>> round(float(share.weighted(tf.constant(3.0))), 4)  # the mean over its own one task of three
        2.0
    """

    tasks: Task
    count: tf.Tensor
    first: tf.Tensor
    even: tf.Tensor

    def weighted(self, mean: tf.Tensor) -> tf.Tensor:
        """A mean over its tasks, so that the mean of these over replicas is that over all tasks."""
        weight = tf.cast(self.count, mean.dtype) / tf.cast(self.even, mean.dtype)
        return tf.math.multiply_no_nan(mean, weight)


def share_of(tasks: Task) -> Share | None:
    """The share of the replica that runs this; None if there is one replica.

    Args:
        tasks: that it got.

    Example:
        >>> share_of({"support_labels": tf.zeros((2, 5))}) is None
        True
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
    count = tf.shape(tasks["support_labels"])[0]
    own = tf.one_hot(replica, replicas) * tf.cast(count, tf.float32)
    counts = tf.cast(context.all_reduce(tf.distribute.ReduceOp.SUM, own), tf.int32)
    missing = tf.maximum(1 - count, 0)

    def padded(values: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([[missing], tf.shape(values)[1:]], 0)
        return tf.concat([values, tf.zeros(shape, values.dtype)], 0)

    even = tf.cast(tf.reduce_sum(counts), tf.float32) / replicas
    return Share(tf.nest.map_structure(padded, dict(tasks)), count, tf.cumsum(counts, exclusive=True)[replica], even)
