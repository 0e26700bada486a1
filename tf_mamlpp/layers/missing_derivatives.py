"""Second derivatives that TensorFlow lacks and that are short to write: importing this gives it them.

They are entries in TensorFlow's own table of derivatives, which has none for these operations: without them, a second
derivative through such an operation is an error (`LookupError`).  Resizing is linear, so that the derivative of
its gradient is the resizing itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf


def softsign_grad_grad(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor]:
    """The derivative of softsign's gradient.

    Formula:
        y = g / (1 + |x|)²; ∂y/∂g = 1 / (1 + |x|)², ∂y/∂x = -2 g sign(x) / (1 + |x|)³

    Args:
        op: `SoftsignGrad`, of g and x.
        upstream: the derivative with respect to y.

    Example:
        >>> with tf.GradientTape() as outer:
        ...     x = tf.Variable(1.0)
        ...     with tf.GradientTape() as inner:
        ...         y = tf.nn.softsign(x)
        ...     first = inner.gradient(y, x)
        >>> float(first), float(outer.gradient(first, x))
        (0.25, -0.25)
    """
    g, x = op.inputs
    below = 1 + tf.abs(x)
    return [upstream / below**2, -2 * upstream * g * tf.sign(x) / below**3]


def resize_grad_grad(op: tf.Operation, upstream: tf.Tensor, *, resize: Callable[..., tf.Tensor]) -> list[Any]:
    """The derivative of the gradient of resizing, to the nearest pixel or bicubic.

    Args:
        op: `ResizeNearestNeighborGrad` or `ResizeBicubicGrad`, of what comes back, and a size or the pictures.
        upstream: the derivative with respect to its output.
        resize: of `tf.raw_ops`, whose gradient `op` is.

    Example:
        >>> x = tf.reshape([1.0, 2.0], (1, 1, 2, 1))
        >>> with tf.GradientTape() as outer:
        ...     outer.watch(x)
        ...     with tf.GradientTape() as inner:
        ...         inner.watch(x)
        ...         y = tf.image.resize(x, (1, 4), "nearest") ** 3
        ...     first = inner.gradient(y, x)
        >>> outer.gradient(first, x).numpy().ravel()  # of 2 x³, twice
        array([12., 24.], dtype=float32)
    """
    returned = op.inputs[0]
    corners, centers = op.get_attr("align_corners"), op.get_attr("half_pixel_centers")
    size = tf.shape(returned)[1:3]
    resized = resize(images=upstream, size=size, align_corners=corners, half_pixel_centers=centers)
    return [tf.cast(resized, returned.dtype), None]


def scale_and_translate_grad_grad(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor | None]:
    """The derivative of the gradient of what `tf.image.resize` does with antialias, and of its other kernels.

    Args:
        op: `ScaleAndTranslateGrad`, of what comes back, the pictures, and their scale and place.
        upstream: the derivative with respect to its output.

    Example:
        >>> x = tf.ones((1, 1, 2, 1))
        >>> with tf.GradientTape() as outer:
        ...     outer.watch(x)
        ...     with tf.GradientTape() as inner:
        ...         inner.watch(x)
        ...         y = tf.image.resize(x, (1, 4), "lanczos3") ** 2
        ...     first = inner.gradient(y, x)
        >>> outer.gradient(first, x).numpy().ravel().round(4)
        array([4., 4.], dtype=float32)
    """
    returned, _, scale, translation = op.inputs
    kernel, antialias = op.get_attr("kernel_type"), op.get_attr("antialias")
    resized = tf.raw_ops.ScaleAndTranslate(
        images=upstream,
        size=tf.shape(returned)[1:3],
        scale=scale,
        translation=translation,
        kernel_type=kernel,
        antialias=antialias,
    )
    return [tf.cast(resized, returned.dtype), None, None, None]


_DERIVATIVES: dict[str, Callable[[Any, tf.Tensor], Any]] = {
    "SoftsignGrad": softsign_grad_grad,
    "ResizeNearestNeighborGrad": partial(resize_grad_grad, resize=tf.raw_ops.ResizeNearestNeighbor),
    "ResizeBicubicGrad": partial(resize_grad_grad, resize=tf.raw_ops.ResizeBicubic),
    "ScaleAndTranslateGrad": scale_and_translate_grad_grad,
}

for _operation, _derivative in _DERIVATIVES.items():
    with contextlib.suppress(KeyError):  # this TensorFlow has it, or another package has given it
        tf.RegisterGradient(_operation)(_derivative)
