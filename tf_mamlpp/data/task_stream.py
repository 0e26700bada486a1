"""Streams of meta-batches whose task i is a pure function of (seed, split, i)."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Task = dict[str, np.ndarray]
"""The keys `support_images`, `support_labels`, `query_images` and `query_labels`."""


def task_bits(seed: int, split: str, index: int) -> np.random.Philox:
    """The random bits of one task.

    Use only `random_raw`: NumPy promises never to change its stream, but not the results of methods such as `choice`.

    Args:
        seed: non-negative number.
        split: name of the split.
        index: number of the task.

    Returns:
        A generator of bits, the same for the same arguments on every machine.

    Example:
        >>> task_bits(seed=0, split="train", index=0).random_raw(2).tolist()
        [9617973443401856022, 5889500716858864206]
    """
    return np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(split.encode()), index]))


def meta_batches(
    sample: Callable[..., Task],
    spec: dict[str, tf.TensorSpec],
    *,
    tasks: int,
    start: int,
    count: int | None,
) -> tf.data.Dataset:
    """Meta-batches start, start + 1, ... where meta-batch s stacks tasks s * tasks to (s + 1) * tasks - 1.

    Args:
        sample: called with `index=` a number, gives that task as arrays of the shapes and types of `spec`.
        spec: shape and type of each entry of a task.
        tasks: tasks a meta-batch.
        start: number of the first meta-batch.
        count: how many meta-batches; None for no end.

    Returns:
        Dataset of dicts with the keys of `spec`, each entry of shape [tasks, ...], shapes static.

    Example:
        >>> spec = {"x": tf.TensorSpec([2], tf.float32)}
        >>> dataset = meta_batches(
        ...     lambda index: {"x": np.full(2, index, np.float32)}, spec, tasks=3, start=1, count=1
        ... )
        >>> [batch["x"].tolist() for batch in dataset.as_numpy_iterator()]
        [[[3.0, 3.0], [4.0, 4.0], [5.0, 5.0]]]
    """

    def arrays(index: np.ndarray) -> list[np.ndarray]:
        task = sample(index=int(index))
        return [task[key] for key in spec]

    def to_task(index: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(arrays, [index], [entry.dtype for entry in spec.values()])
        return {key: tf.ensure_shape(value, spec[key].shape) for key, value in zip(spec, values, strict=True)}

    end = tf.int64.max if count is None else (start + count) * tasks
    batches = tf.data.Dataset.range(start * tasks, end).map(to_task).batch(tasks, drop_remainder=True)
    if count is None:
        batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    options = tf.data.Options()
    options.autotune.enabled = False  # one worker is enough, and tuned buffers would hold more meta-batches
    # There are no files to shard by.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
