"""Which inner step a pass through the model belongs to, and what it asks of the layers."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Pass:
    """What one pass through the model asks of its batch norms; see `inner_step`."""

    step: int | tf.Tensor
    statistics: str
    momentum: float | None


current_pass: contextvars.ContextVar[Pass | None] = contextvars.ContextVar("inner_step", default=None)


@contextlib.contextmanager
def inner_step(step: int | tf.Tensor, statistics: str = "batch", momentum: float | None = None) -> Iterator[None]:
    """Tells every `PerStepBatchNormalization` called inside which inner step this pass belongs to.

    Args:
        step: the inner step, 0-based; steps past a layer's last row use that row.
        statistics: `batch` normalises with the batch's own moments, `running` with the moving ones.
        momentum: of the moving statistics' update: None for the layer's own, 0 to replace them by the
            batch's (differentiably), 1 to leave them alone.
    """
    token = current_pass.set(Pass(step, statistics, momentum))
    try:
        yield
    finally:
        current_pass.reset(token)
