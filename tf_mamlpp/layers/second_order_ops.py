"""Operations with second derivatives written by hand: exact, and cheaper than TensorFlow's own (BUILD_NOTES.md).

Third derivatives through them are wrong: meta-gradients take two.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

_needed: contextvars.ContextVar[bool] = contextvars.ContextVar("second_order_needed", default=True)


@contextlib.contextmanager
def first_order_only() -> Iterator[None]:
    """Inside, the operations are TensorFlow's own, right to first order.

    Evaluation and exported models take no more, and a SavedModel with custom gradients warns of them when loaded.

    Example:
        >>> with first_order_only():
        ...     max_pool(tf.ones((1, 4, 4, 1)), (2, 2)).shape
        TensorShape([1, 2, 2, 1])
    """
    token = _needed.set(False)
    try:
        yield
    finally:
        _needed.reset(token)


def is_first_order_only() -> bool:
    """Whether the call is inside `first_order_only`.

    Example:
        >>> is_first_order_only()
        False
    """
    return not _needed.get()


def max_pool(x: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Max-pool without overlap; what is left over at the border counts for nothing.

    Args:
        x: `[B, H, W, C]`.
        size: height and width of a window.

    Returns:
        `[B, H // height, W // width, C]`.

    Example:
        >>> max_pool(tf.reshape(tf.range(16.0), (1, 4, 4, 1)), (2, 2)).numpy().ravel()
        array([ 5.,  7., 13., 15.], dtype=float32)
    """
    window = {"ksize": [1, *size, 1], "strides": [1, *size, 1], "padding": "VALID"}
    if not _needed.get():
        return tf.raw_ops.MaxPool(input=x, **window)

    def forward(x: tf.Tensor) -> Any:
        y = tf.raw_ops.MaxPool(input=x, **window)

        def spread(g: tf.Tensor) -> tf.Tensor:
            """Each of g where its window's largest value is, else 0."""
            return tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=y, grad=g, **window)

        def picked(w: tf.Tensor) -> tf.Tensor:
            """The one of w in each window where its largest value is: the adjoint of `spread`.

            MaxPoolGradGrad gives the same, slower.
            """
            return tf.raw_ops.AvgPool(value=w * spread(tf.ones_like(y)), **window) * (size[0] * size[1])

        return y, tf.custom_gradient(lambda g: (spread(g), picked))

    return tf.custom_gradient(forward)(x)


def batch_normalise(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch normalisation by TensorFlow's fused operations, whose own second derivative is not fused.

    Formula:
        x̂ = (x - μ) r, r = (σ² + ε)^-½, y = γ x̂ + β.  With P v = v - mean(v) - x̂ mean(v x̂), the first derivative is
        ∂x = γ r P g, ∂γ = Σ g x̂, ∂β = Σ g.  The derivative of ⟨w, ∂x⟩ is γ r P w to g, r ⟨P w, g⟩ to γ, and to x
        -γ r² (mean(g x̂) P w + mean(w x̂) P g + x̂ mean(w P g)).

    Args:
        x: `[B, H, W, C]` float32, with more than one value a channel.
        gamma, beta: `[C]`.
        epsilon: ε.

    Returns:
        y, and the mean and biased variance of each channel, `[C]`, as records: no gradient flows through them.

    Example:
        >>> x = tf.reshape([1.0, 3.0], (2, 1, 1, 1))
        >>> y, mean, variance = batch_normalise(x, tf.ones(1), tf.zeros(1), epsilon=1e-5)
        >>> y.numpy().ravel().round(3), float(mean[0]), float(variance[0])
        (array([-1.,  1.], dtype=float32), 2.0, 1.0)
    """
    count = tf.cast(tf.size(x) // tf.size(gamma), x.dtype)

    def forward(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> Any:
        y, mean, variance, *reserved = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
        )
        variance *= (count - 1) / count  # TensorFlow's is the unbiased one
        r = tf.math.rsqrt(variance + epsilon)

        def backward(g: tf.Tensor, scale: tf.Tensor = gamma) -> Any:
            """scale r P g, Σ g x̂, Σ g."""
            spaces = {f"reserve_space_{i + 1}": space for i, space in enumerate(reserved)}
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=g, x=x, scale=scale, epsilon=epsilon, is_training=True, **spaces
            )[:3]

        def to_x(x: tf.Tensor, gamma: tf.Tensor, g: tf.Tensor) -> Any:
            along_g, sum_gx, sum_g = backward(g)

            def second(w: tf.Tensor) -> Any:
                along_w, sum_wx, sum_w = backward(w)
                gx, wx = sum_gx / count, sum_wx / count
                both = tf.reduce_mean(w * g, [0, 1, 2]) - sum_w * sum_g / count**2 - wx * gx
                scale = -gamma * both * r**3
                wrt_x = tf.add_n([along_w * (-r * gx), along_g * (-r * wx), x * scale - mean * scale])
                return wrt_x, r * count * both, along_w

            return along_g, second

        def to_weights(x: tf.Tensor, g: tf.Tensor) -> Any:
            def second(w_gamma: tf.Tensor, w_beta: tf.Tensor) -> Any:
                along_g = backward(g, tf.ones_like(gamma))[0]
                scale = w_gamma * r
                return along_g * w_gamma, x * scale - mean * scale + w_beta

            return backward(g)[1:], second

        def first(g: tf.Tensor, *_: tf.Tensor) -> Any:
            return tf.custom_gradient(to_x)(x, gamma, g), *tf.custom_gradient(to_weights)(x, g)

        return (y, mean, variance), first

    if not _needed.get():
        (y, mean, variance), _ = forward(x, gamma, beta)
        return y, tf.stop_gradient(mean), tf.stop_gradient(variance)
    return tf.custom_gradient(forward)(x, gamma, beta)
