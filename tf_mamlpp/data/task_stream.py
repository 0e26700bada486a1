"""Streams of meta-batches whose task i is a pure function of (seed, split, i)."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Task = dict[str, np.ndarray]


def task_bits(seed: int, split: str, index: int) -> np.random.Philox:
    """The random bits of one task.

    Draw only `random_raw` from it: NumPy promises that stream for ever, but not that of methods such as
    `choice`.
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
    options.autotune.enabled = False  # one worker is plenty, and tuned buffers would hold more meta-batches
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA  # no files
    return batches.with_options(options)
