"""Evaluation on fixed tasks, as the paper does it (section 5): accuracy over tasks, its interval, the ensemble."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.intervals import mean_interval
from tf_mamlpp.meta.losses import accuracy
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.task_data import as_tasks
from tf_mamlpp.meta.task_map import task_map


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        per_task: the metric of every task after 0..inner_steps steps, float64 `[tasks, inner_steps + 1]`.
        answers: of each meta-batch the outputs after the last step, probabilities of a classification,
            `[tasks, Q, outputs]`.

    Example:
        >>> found = Evaluation(np.array([[0.25, 0.5], [0.25, 0.75], [0.25, 0.5], [0.25, 0.75]]))
        >>> found.value, round(found.confidence_95, 3), found.per_inner_step
        (0.625, 0.141, [0.25, 0.625])
    """

    per_task: np.ndarray
    answers: tuple[np.ndarray, ...] = ()

    @property
    def value(self) -> float:
        """Mean over tasks after the last step."""
        return self.per_inner_step[-1]

    @property
    def confidence_95(self) -> float:
        """Half the width of the 95 % interval of the mean over tasks (1.96 standard errors)."""
        return mean_interval(self.per_task[:, -1])[1]

    @property
    def per_inner_step(self) -> list[float]:
        """Mean over tasks after 0..inner_steps steps."""
        return [float(v) for v in self.per_task.mean(0)]


def evaluate(
    learner: EpisodicModel,
    tasks: Iterable[dict[str, tf.Tensor]],
    *,
    inner_steps: int | None = None,
    query_statistics: str | None = None,
    members: Iterable[Callable[[], Any]] = (lambda: None,),
) -> Evaluation:
    """Adapts to each task and measures its query set.

    Args:
        learner: its weights are those that the last member loaded.
        tasks: meta-batches; read once for every member, and the same ones each time (an iterator is kept whole).
        inner_steps: None for as many as trained.
        query_statistics: `batch`, `running` or `support`; None for the learner's.
        members: each loads one member of the ensemble into the learner; their probabilities (regression: outputs)
            are averaged, as the paper averages the five best epochs.  The default is the learner as it is.

    Returns:
        The metric of every task after every inner step.

    Raises:
        UserError: there are no tasks, or other ones for another member.

    Example:
        >>> import keras
        >>> from tf_mamlpp import MetaLearner
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> learner = MetaLearner(model, way=2, inner_steps=3, inner_rate=2.0)
        >>> pictures, labels = tf.eye(2)[tf.newaxis], tf.constant([[0, 1]])
        >>> task = {"support_images": pictures, "support_labels": labels}
        >>> evaluate(learner, [{**task, "query_images": pictures, "query_labels": labels}]).value
        1.0
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def outputs(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return learner.output_kind.to_probabilities(learner.curves(batch, inner_steps, query_statistics))

    several = list(members)
    if len(several) > 1 and isinstance(tasks, Iterator):
        tasks = list(tasks)
    totals: list[np.ndarray] = []  # of each meta-batch, since they may differ in the number of classes
    labels: list[np.ndarray] = []
    first: list[int] = []
    for count, load in enumerate(several, 1):
        load()
        digests = []
        for i, batch in enumerate(map(as_tasks, tasks)):
            learner.reading.labels.check_tasks(batch)
            member = outputs(dict(batch)).numpy()
            digests.append(_digest(batch) if len(several) > 1 else 0)
            if count == 1:
                totals.append(member)
                labels.append(np.asarray(batch["query_labels"]))
            elif i < len(totals) and member.shape == totals[i].shape:  # else refused below
                totals[i] = totals[i] + (member - totals[i]) / count
        if count == 1:
            first = digests
        _check_same(first, digests, count)
    measure = _measure(learner)
    measured = [measure(*pair) for pair in zip(labels, map(learner.output_kind.of_probabilities, totals), strict=True)]
    return Evaluation(np.concatenate(measured), tuple(curves[:, -1].copy() for curves in totals))


def _measure(learner: EpisodicModel) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What measures the curves `[tasks, steps + 1, Q, outputs]` of a meta-batch at each step, `[tasks, steps + 1]`."""

    @tf.function(autograph=False, reduce_retracing=True)
    def measure(labels: tf.Tensor, curves: tf.Tensor) -> tf.Tensor:
        def at_step(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            # One task at one step: shapes are those of training.
            return tf.cast(learner.metric_function(*pair), tf.float64)

        repeated = tf.repeat(labels, tf.shape(curves)[1], axis=0)
        flat = tf.reshape(curves, tf.concat([[-1], tf.shape(curves)[2:]], 0))
        return task_map(at_step, (repeated, flat), tf.TensorSpec(None, tf.float64))

    def measured(labels: np.ndarray, curves: np.ndarray) -> np.ndarray:
        if learner.metric_function is not accuracy:
            curves = curves.astype(learner._float)  # Keras's metrics need not know float64
        values = measure(tf.constant(labels), tf.constant(curves)).numpy()
        return values.reshape(*curves.shape[:2], -1).mean(-1)

    return measured


def _digest(batch: Mapping[str, Any]) -> int:
    """A checksum of all that a meta-batch holds."""
    digest = 0
    for name in sorted(batch):
        for values in tf.nest.flatten(batch[name]):
            digest = zlib.crc32(np.asarray(values).tobytes(), digest)
    return digest


def _check_same(first: list[int], digests: list[int], member: int) -> None:
    if not first:
        raise UserError("there are no tasks to evaluate on")
    if digests != first:
        found = "other tasks" if digests else "fewer tasks (none)"
        raise UserError(
            f"the ensemble's member {member} got {found} than its first one: give a dataset that yields the "
            "same each time it is read (shuffle with reshuffle_each_iteration=False, or a list of meta-batches)"
        )
