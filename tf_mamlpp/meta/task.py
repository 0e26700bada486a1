"""The types of what a learner works on: a task, lists of tensors, a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

Task = Mapping[str, tf.Tensor]
"""One task, or with a leading axis of tasks a meta-batch: `support_images` `[S, ...]`, `support_labels` `[S]`,
`query_images` `[Q, ...]`, `query_labels` `[Q]`; inputs may be dicts and tuples of tensors."""

Tensors = Sequence[tf.Tensor]
"""Values of a model's variables, in the model's order."""

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(labels, outputs) -> scalar or [B]`."""


def no_loss(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """In place of a loss that is not known yet.

    Example:
        >>> no_loss(tf.zeros(2), tf.zeros(2))
        Traceback (most recent call last):
        NotImplementedError
    """
    raise NotImplementedError
