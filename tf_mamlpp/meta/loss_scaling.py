"""Loss scaling: keeps gradients that are computed in float16 away from zero, as Keras's LossScaleOptimizer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

INNER_SCALE = 2.0**10
"""Of the inner loop's losses.  The second derivatives of a step are scaled by the outer scale (2^15 at first) over this
one, so that both have room in float16."""

OUTER_SCALE = 2.0**15
"""Of the outer loss where no optimizer has one: Keras's first scale."""


def computes_in_float16(model: keras.Model) -> bool:
    """Whether a layer of a model computes in float16.

    Example:
        >>> computes_in_float16(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, dtype="mixed_float16")]))
        True
    """
    return any(layer.compute_dtype == "float16" for layer in model._flatten_layers())


def scaled_gradient(
    tape: tf.GradientTape, loss: tf.Tensor, sources: Sequence[tf.Tensor], scale: Any = None, **settings: Any
) -> list[tf.Tensor | None]:
    """The gradient of a loss, computed as that of `scale` times the loss, and divided by it.

    Args:
        tape: that recorded the loss.
        loss: scalar.
        sources: float32 tensors, where float16 is used inside.
        scale: a number or a scalar tensor; None for 1.
        **settings: of `tf.GradientTape.gradient`.

    Example:
        >>> x = tf.constant(1.0)
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = tf.cast(1e-9 * tf.cast(tf.cast(x, "float16"), "float32"), "float32")
        >>> round(1e9 * float(scaled_gradient(tape, y, [x], 2.0**15)[0]), 2)  # 0 without a scale
        1.0
    """
    if scale is None:
        return [_dense(g) for g in tape.gradient(loss, sources, **settings)]
    gradients = map(_dense, tape.gradient(loss, sources, output_gradients=tf.cast(scale, loss.dtype), **settings))
    return [None if g is None else g / tf.cast(scale, g.dtype) for g in gradients]


def _dense(gradient: Any) -> Any:
    """A gradient as a tensor: that of an embedding has the rows that were looked up alone."""
    return None if gradient is None else tf.convert_to_tensor(gradient)


def scaling_optimizer(optimizer: Any, model: keras.Model) -> Any:
    """An optimizer that scales the loss, for a model that computes in float16; else the optimizer as it is.

    Keras does so by the policy of the whole model, which need not be that of its layers.

    Example:
        >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, dtype="mixed_float16")])
        >>> type(scaling_optimizer("sgd", net)).__name__
        'LossScaleOptimizer'
    """
    if not computes_in_float16(model):
        return optimizer
    optimizer = keras.optimizers.get(optimizer)
    is_scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer if is_scaling else keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor | None:
    """What an optimizer multiplies the loss with, and divides the gradient by; None if it does not.

    Example:
        >>> loss_scale(keras.optimizers.SGD(0.1)) is None
        True
        >>> float(loss_scale(keras.optimizers.SGD(0.1, loss_scale_factor=8.0)))
        8.0
    """
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None
    return tf.convert_to_tensor(optimizer.scale_loss(tf.constant(1.0))) if scales else None
