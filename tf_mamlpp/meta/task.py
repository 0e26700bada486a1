"""The types of what a learner works on: a task, its tensors, a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

Task = Mapping[str, tf.Tensor]


Tensors = Sequence[tf.Tensor]


Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
