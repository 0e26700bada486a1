"""What an epoch reports: means over its tasks, as `keras.Model.metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.src.trainers.compile_utils import MetricsList


class EpochMeans:
    """The means over tasks that an epoch reports: of losses and of metrics, by name.

    Args:
        directions: of each name: `up`, `down`, or None where it is not known.

    Attributes:
        by_name: Keras's means.

    Example:
        >>> means = EpochMeans({"loss": "down", "accuracy": "up"})
        >>> means.by_name["loss"].update_state([1.0, 2.0])
        >>> [float(value) for value in means.results(["loss"]).values()], len(means.as_keras())
        ([1.5], 3)
    """

    def __init__(self, directions: Mapping[str, str | None]):
        self.by_name = {name: _Mean(name=name) for name in directions}
        for name, direction in directions.items():
            if direction:
                self.by_name[name]._direction = direction
        self._directions = _Directions(list(self.by_name.values()))

    def results(self, names: Iterable[str]) -> dict[str, tf.Tensor]:
        """The means so far."""
        return {name: self.by_name[name].result() for name in names}

    def as_keras(self) -> list[keras.metrics.Metric]:
        """What `keras.Model.metrics` has to be."""
        return [*self.by_name.values(), self._directions]

    @property
    def variables(self) -> list[keras.Variable]:
        return [v for mean in self.by_name.values() for v in mean.variables]


class _Mean(keras.metrics.Mean):
    """Keras's mean, right on several replicas too.

    Keras 3.8 assigns the old value plus the new one, and the sum of that over replicas counts the old value once for
    each of them.  TensorFlow's own `assign_add` sums what is added.
    """

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        values = tf.cast(values, self.dtype)
        weights = tf.ones_like(values) if sample_weight is None else tf.cast(sample_weight, self.dtype)
        weights = tf.broadcast_to(weights, tf.shape(values))
        self.total.value.assign_add(tf.reduce_sum(values * weights))
        self.count.value.assign_add(tf.reduce_sum(weights))


class _Directions(MetricsList):
    """Where Keras's callbacks look for a metric's direction; it reports nothing itself."""

    def __init__(self, metrics: list[keras.metrics.Metric]):
        super().__init__(metrics, name="directions")

    def reset_state(self) -> None:
        pass

    def result(self) -> dict[str, tf.Tensor]:
        return {}
