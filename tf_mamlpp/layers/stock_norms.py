"""Keras's own normalisation inside passes of a learner: exact to second order, and told what to normalise with.

What `convert_normalization` can exchange, it exchanges.  The rest, stock layers inside layers and models of the user's
own, computes through Keras's `ops.moments` and `BatchNormalization.call`.  Importing this module puts two functions in
their place, which act as Keras's own do but inside `step_context.inner_step`, where a learner's passes are.  So
no layer is copied or changed, and none outside of a learner notices.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import nn as keras_nn

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.exact_norms import moments_in_dtype
from tf_mamlpp.layers.moving_statistics import before_pass, moved
from tf_mamlpp.layers.step_context import current_pass

_moments_of_keras = keras_nn.moments
_batch_norm_of_keras = keras.layers.BatchNormalization.call


@functools.wraps(_moments_of_keras)
def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """In place of Keras's: exact to every order inside a learner's pass, whose replicas have tasks of their own.

    Example:
        >>> from tf_mamlpp.layers.step_context import inner_step
        >>> with inner_step(0):
        ...     mean, variance = keras.ops.moments(tf.constant([1.0, 3.0]), [0])
        >>> float(mean), float(variance)
        (2.0, 1.0)
    """
    if current_pass.get() is None:
        return _moments_of_keras(x, axes, keepdims, synchronized)
    return moments_in_dtype(tf.convert_to_tensor(x), axes, keepdims)


@functools.wraps(_batch_norm_of_keras)
def batch_normalisation(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> tf.Tensor:
    """In place of `BatchNormalization.call`: in a learner's pass what `PerStepBatchNormalization` does with one row.

    Raises:
        UserError: the layer has `renorm`, or `support` statistics and a second call.

    Example:
        >>> from tf_mamlpp.layers.step_context import inner_step
        >>> layer = keras.layers.BatchNormalization(epsilon=0.0)
        >>> layer.build((2, 1))
        >>> with inner_step(0, "batch"):
        ...     layer(tf.constant([[1.0], [3.0]]), training=False).numpy().ravel()
        array([-1.,  1.], dtype=float32)
    """
    asked = current_pass.get()
    if asked is None:
        return _batch_norm_of_keras(self, inputs, training=training, mask=mask)
    check_renorm(self)
    # Frozen layers infer, as outside.
    by_batch, momentum = asked.statistics == "batch", self.momentum if asked.momentum is None else asked.momentum
    if not self.trainable:
        by_batch, momentum = False, 1.0
    x = keras.ops.cast(inputs, keras.src.backend.result_type(inputs.dtype, "float32"))
    tables = (self.moving_mean, self.moving_variance)
    moving = [tf.cast(tf.convert_to_tensor(v), x.dtype) for v in tables]
    batch = self._moments(x, mask) if by_batch or momentum < 1 else moving
    if momentum < 1:
        for table, old, new in zip(tables, moving, batch, strict=True):
            table.assign(moved(self.name, table, momentum, old, new))
    mean, variance = batch if by_batch else map(before_pass, tables, moving)
    gamma, beta = (None if w is None else tf.cast(tf.convert_to_tensor(w), x.dtype) for w in (self.gamma, self.beta))
    outputs = keras.ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
    return keras.ops.cast(outputs, self.compute_dtype)


def check_renorm(layer: keras.layers.BatchNormalization) -> None:
    """Refuses batch renormalisation.

    Raises:
        UserError: naming the layer.

    Example:
        >>> check_renorm(keras.layers.BatchNormalization())
    """
    if getattr(layer, "renorm", False):
        raise UserError(f"batch norm '{layer.name}' has renorm=True, which has no exact counterpart: turn it off")


keras_nn.moments = moments
keras.layers.BatchNormalization.call = batch_normalisation
