"""What a learner makes of outputs: their kind, the loss, the metrics and the labels that there may be."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.label_range import LabelRange, label_range
from tf_mamlpp.meta.losses import mean_loss, mean_of
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task import Loss
from tf_mamlpp.meta.task_metrics import TaskMetric, task_metrics


class Reading(NamedTuple):
    """How outputs are read.

    Attributes:
        kind: what they are.
        loss: `(labels, outputs) -> scalar`.
        metrics: what is measured of each task, at least one.
        means: each metric as a scalar.
        labels: that there may be.
        is_decided: False where the loss is still to come.

    Example:
        >>> found = Reading.of(OutputKind(values=True), "mean_squared_error", None, way=None, dtype="float32")
        >>> [metric.name for metric in found.metrics]
        ['mean_squared_error']
    """

    kind: OutputKind
    loss: Loss
    metrics: list[TaskMetric]
    means: list[Loss]
    labels: LabelRange
    is_decided: bool = True

    @classmethod
    def of(
        cls, kind: OutputKind, loss: Any, metrics: Any, way: int | None, dtype: str, any_way: bool = False
    ) -> Reading:
        """The reading of outputs of a known kind.

        Args:
            kind: of the outputs.
            loss: that agrees with it (`output_kind.output_kind`).
            metrics: see `task_metrics`.
            way: classes of a task.
            dtype: of scalars.
            any_way: whether a task may have another number of them.
        """
        function = mean_loss(loss, dtype)
        measured = task_metrics(metrics, kind, function, loss)
        means = [mean_of(metric.function, dtype) for metric in measured]
        return cls(kind, function, measured, means, label_range(loss, way, any_way))

    @classmethod
    def undecided(cls, error: UserError, metrics: Any, dtype: str) -> Reading:
        """In place of one whose loss is still to be given to `compile`: its loss raises the error.

        Args:
            error: that tells why there is none yet.
            metrics, dtype: see `of`.
        """

        def loss(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
            raise UserError(str(error))

        return cls.of(OutputKind(), loss, metrics, None, dtype)._replace(is_decided=False)

    def measure(self, labels: tf.Tensor, outputs: tf.Tensor) -> list[tf.Tensor]:
        """Every metric of one task, scalars."""
        return [mean(labels, outputs) for mean in self.means]
