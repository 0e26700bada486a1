"""How a pass moves the moving statistics of a batch norm."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.step_context import current_pass


def moved(name: str, table: Any, momentum: float, old: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Moving statistics after a batch.

    Formula:
        momentum * old + (1 - momentum) * batch

    Args:
        name: of the batch norm.
        table: the variable that they are kept in.
        momentum: how much of the old value stays; with 0 gradients flow through the new one.
        old, batch: `[C]`, the statistics as they are, and the batch's.

    Raises:
        UserError: a pass replaces the statistics for the second time: the layer is called twice in it.

    Example:
        >>> moved("norm", None, 0.9, tf.constant([1.0]), tf.constant([2.0])).numpy()
        array([1.1], dtype=float32)
    """
    this_pass = current_pass.get()
    if momentum:
        if this_pass is not None:
            this_pass.before.setdefault(id(table), old)
        # A record that gradients must not flow through; with momentum 0 it is a result.
        return momentum * old + (1 - momentum) * tf.stop_gradient(batch)
    if this_pass is not None:
        if id(table) in this_pass.replaced:
            raise UserError(
                f"batch norm '{name}' is called more than once in its model, so that support statistics, one mean and "
                "variance a layer, cannot serve each call: set query_statistics (and evaluation_statistics) to batch "
                "or running, or give each call a batch norm of its own"
            )
        this_pass.replaced.add(id(table))
    return batch


def before_pass(table: Any, now: tf.Tensor) -> tf.Tensor:
    """Moving statistics as this pass found them: what it records in one call of a layer is not for the next to read.

    Args:
        table: the variable that they are kept in.
        now: `[C]`, the statistics as they are.

    Example:
        >>> before_pass(None, tf.constant([1.0])).numpy()
        array([1.], dtype=float32)
    """
    this_pass = current_pass.get()
    return now if this_pass is None else this_pass.before.get(id(table), now)
