"""Sinusoid regression, the first experiment of the MAML paper (Finn, Abbeel, Levine 2017, section 5.1)."""

from __future__ import annotations

from functools import partial

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.task_stream import Task, meta_batches, task_bits

_AMPLITUDE = (0.1, 5.0)
_PHASE = (0.0, np.pi)
_X = (-5.0, 5.0)


def _sample_sinusoid(*, shot: int, query_shot: int, seed: int, split: str, index: int) -> Task:
    """Draws task `index`, a pure function of the arguments: x as "images" and y as "labels", float32 [points, 1]."""
    points = shot + query_shot
    chance = task_bits(seed, split, index).random_raw(2 + points) / 2.0**64
    amplitude, phase = _between(_AMPLITUDE, chance[0]), _between(_PHASE, chance[1])
    x = _between(_X, chance[2:, None])
    y = amplitude * np.sin(x - phase)
    x, y = x.astype(np.float32), y.astype(np.float32)
    return {
        "support_images": x[:shot],
        "support_labels": y[:shot],
        "query_images": x[shot:],
        "query_labels": y[shot:],
    }


def sinusoid_episodes(
    *,
    split: str = "train",
    shot: int,
    query_shot: int,
    tasks: int,
    seed: int = 0,
    start: int = 0,
    count: int | None = None,
) -> tf.data.Dataset:
    """Meta-batches of sinusoid tasks, with the keys of `episodes`, so that the same learner trains on them.

    A task is one curve, of which x is given and y is to be predicted.

    Formula:
        y = amplitude · sin(x - phase), with amplitude uniform in 0.1..5, phase in 0..π and x in -5..5

    Args:
        split: "train", "validation" or "test"; all follow one distribution, but share no task.
        shot: support points a task.
        query_shot: query points a task.
        tasks: tasks a meta-batch.
        seed: seed of the tasks.
        start: number of the first meta-batch, to resume.
        count: how many meta-batches; None for no end.

    Returns:
        Dataset of dicts of float32: "support_images" (the x) and "support_labels" (the y) [tasks, shot, 1],
        "query_images" and "query_labels" [tasks, query_shot, 1].

    Example:
        >>> batch = next(iter(sinusoid_episodes(shot=5, query_shot=10, tasks=4)))
        >>> batch["support_images"].shape, batch["query_labels"].shape
        (TensorShape([4, 5, 1]), TensorShape([4, 10, 1]))

    References:
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", arXiv 1703.03400,
        section 5.1.
    """
    sample = partial(_sample_sinusoid, shot=shot, query_shot=query_shot, seed=seed, split=split)
    support, query = tf.TensorSpec([shot, 1], tf.float32), tf.TensorSpec([query_shot, 1], tf.float32)
    spec = {"support_images": support, "support_labels": support, "query_images": query, "query_labels": query}
    return meta_batches(sample, spec, tasks=tasks, start=start, count=count).prefetch(2)


def _between(limits: tuple[float, float], chance: np.ndarray) -> np.ndarray:
    """Numbers uniform between the limits, of numbers uniform in 0..1."""
    return limits[0] + (limits[1] - limits[0]) * chance
