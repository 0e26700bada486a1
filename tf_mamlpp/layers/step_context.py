"""What a pass through the model tells its layers beside their inputs.

Keras calls layers with tensors alone.  Two things go past it:

- which inner step the pass belongs to, and what batch norm is to normalise with: `inner_step` sets it for all layers
  called inside, in a context variable;
- how a convolution made its outputs: an attribute of the output tensor, `mark_convolution` and `convolution_of`, with
  which a batch norm right behind the convolution computes the same numbers for less.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Pass:
    """What one pass through the model asks of its batch norms; see `inner_step`.

    Attributes:
        replaced: the tables whose moving statistics this pass has replaced by its own, by identity.
        before: the moving statistics that this pass has moved, as they were, by their table's identity.

    Example:
        >>> Pass(step=0, statistics="batch", momentum=None).statistics
        'batch'
    """

    step: int | tf.Tensor
    statistics: str
    momentum: float | None
    replaced: set[int] = field(default_factory=set, compare=False)
    before: dict[int, tf.Tensor] = field(default_factory=dict, compare=False)


current_pass: contextvars.ContextVar[Pass | None] = contextvars.ContextVar("inner_step", default=None)
"""The pass that layers are called in; None outside of `inner_step`."""


@contextlib.contextmanager
def inner_step(step: int | tf.Tensor, statistics: str = "batch", momentum: float | None = None) -> Iterator[None]:
    """Tells every `PerStepBatchNormalization` called inside which inner step this pass belongs to.

    Args:
        step: the inner step, 0-based; steps past a layer's last row use that row.
        statistics: `batch` normalises with the batch's own moments, `running` with the moving ones.
        momentum: of the moving statistics' update: None for the layer's own, 0 to replace them by the
            batch's (differentiably), 1 to leave them alone.

    Example:
        >>> with inner_step(2, "running"):
        ...     current_pass.get().step
        2
    """
    token = current_pass.set(Pass(step, statistics, momentum))
    try:
        yield
    finally:
        current_pass.reset(token)


def mark_convolution(outputs: tf.Tensor, made_by: Any) -> None:
    """Notes on a tensor how a convolution made it.

    Args:
        outputs: of the convolution.
        made_by: a `convolution.Convolved`.

    Example:
        >>> outputs = tf.zeros((1, 2, 2, 3))
        >>> mark_convolution(outputs, "a convolution")
        >>> convolution_of(outputs), convolution_of(outputs + 1)
        ('a convolution', None)
    """
    outputs.made_by_convolution = made_by


def convolution_of(tensor: tf.Tensor) -> Any:
    """What `mark_convolution` noted on a tensor; None where another operation came after the convolution.

    Example:
        >>> convolution_of(tf.zeros(3)) is None
        True
    """
    return getattr(tensor, "made_by_convolution", None)
