"""The batch norms of a model, wherever they sit, and which variables are theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization


class BatchNorm(NamedTuple):
    """A batch norm's variables in the model of a learner.

    Attributes:
        layer: `PerStepBatchNormalization` or Keras's own.
        weights: gamma and beta, `[C]` or a row for each inner step, as far as there are.
        statistics: moving mean and variance, the same.

    Example:
        >>> norm = keras.layers.BatchNormalization()
        >>> BatchNorm(norm, [], []).layer is norm
        True
    """

    layer: Any
    weights: list[Any]
    statistics: list[Any]


def batch_norms(model: keras.Model) -> Iterator[BatchNorm]:
    """Each batch norm of a model.

    Args:
        model: of a learner.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), PerStepBatchNormalization(2)])
        >>> [tuple(norm.statistics[0].shape) for norm in batch_norms(model)]
        [(2, 4)]
    """
    for layer in model._flatten_layers():
        if isinstance(layer, (PerStepBatchNormalization, keras.layers.BatchNormalization)):
            weights = [v for v in (layer.gamma, layer.beta) if v is not None]
            statistics = [layer.moving_mean, layer.moving_variance]
            yield BatchNorm(layer, own_variables(model, weights), own_variables(model, statistics))


def own_variables(model: keras.Model, variables: Sequence[Any]) -> list[Any]:
    """The variables of a learner's model that stand for those of one of its layers: mostly these themselves.

    Example:
        >>> layer = keras.layers.Dense(1)
        >>> model = keras.Sequential([keras.Input((4,)), layer])
        >>> own_variables(model, [layer.kernel])[0] is layer.kernel
        True
    """
    return [model.own(v) for v in variables] if isinstance(model, BorrowedModel) else list(variables)


def has_rows(variable: Any) -> bool:
    """Whether a batch norm's variable has a row for each inner step.

    Example:
        >>> [has_rows(norm.weights[0]) for norm in batch_norms(keras.Sequential([keras.Input((4,)),
        ...     PerStepBatchNormalization(2, per_step_weights=False)]))]
        [False]
    """
    return len(variable.shape) == 2


def per_step_drift(model: keras.Model) -> Iterator[tuple[str, np.ndarray]]:
    """How far the steps' batch-norm weights (BNWB) have drifted apart.

    Formula:
        d_k = sqrt(mean over channels of (w_k - w_0)²)

    Args:
        model: of a learner.

    Yields:
        For each gamma and beta with a row for each inner step, its path and d, float64 `[inner_steps]`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), PerStepBatchNormalization(2, name="norm")], name="net")
        >>> [(path, drift.tolist()) for path, drift in per_step_drift(model)]
        [('net/norm/gamma', [0.0, 0.0]), ('net/norm/beta', [0.0, 0.0])]
    """
    for norm in batch_norms(model):
        for table in norm.weights:
            if table.trainable and has_rows(table):
                rows = table.numpy().astype(np.float64)
                yield table.path, np.sqrt(((rows - rows[0]) ** 2).mean(-1))
