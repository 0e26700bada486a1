"""Memory for time: steps that run again in the backward pass instead of being kept for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Step = Callable[[Any, Any, tf.Tensor], tuple[Any, tf.Tensor]]


def recomputed_loop(step: Step, count: int, carried: Any, constants: Any) -> tuple[Any, tf.Tensor]:
    """Runs `step` `count` times, and keeps for the backward pass no more than what each step started from.

    There is a loop forward and one backward, of one step each, so that the graph does not grow with `count` either.
    For the inner loop of MAML (arXiv 1703.03400, algorithm 1) the backward one is the adjoint recursion, exact:

    Formula:
        λ_k = λ_{k+1} - H_k (α ⊙ λ_{k+1}) + w_k ∇Q_k, H_k the Hessian of the support loss at θ_k

    Args:
        step: `(carried, constants, k) -> (new carried, scalar loss)`, k an int32 tensor.  Pure; may take gradients
            itself.  Gradients reach `carried` and `constants`, nothing else that it uses.
        count: how many times, at least 1.
        carried: nested tensors that every step changes; the first is of the losses' dtype.
        constants: nested tensors that every step sees.

    Returns:
        `carried` after the last step, and the losses, `[count]`; differentiable once, in a `tf.function`.

    Example:
        >>> @tf.function
        ... def gradient(x):
        ...     with tf.GradientTape() as tape:
        ...         tape.watch(x)
        ...         (end,), _ = recomputed_loop(lambda carried, fixed, k: ([2.0 * carried[0]], carried[0]), 3, [x], [])
        ...     return tape.gradient(end, x)
        >>> float(gradient(tf.constant(1.0)))  # of 8 x
        8.0
    """
    width = len(tf.nest.flatten(carried))

    def flat_step(now: Any, fixed: Any, k: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        new, loss = step(tf.nest.pack_sequence_as(carried, now), tf.nest.pack_sequence_as(constants, fixed), k)
        return tf.nest.flatten(new), loss

    @tf.custom_gradient
    def run(*inputs: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., list[tf.Tensor | None]]]:
        begin, fixed = list(inputs[:width]), list(inputs[width:])

        def forward(k: tf.Tensor, now: Any, kept: Any, losses: Any) -> tuple[Any, ...]:
            kept = [array.write(k, x) for array, x in zip(kept, now, strict=True)]
            now, loss = flat_step(now, fixed, k)
            return k + 1, now, kept, losses.write(k, loss)

        kept = [tf.TensorArray(x.dtype, count, element_shape=x.shape) for x in begin]
        losses = tf.TensorArray(begin[0].dtype, count, element_shape=())
        _, end, kept, losses = tf.while_loop(
            lambda k, *_: k < count, forward, (tf.constant(0), begin, kept, losses), parallel_iterations=1
        )
        history = [array.stack() for array in kept]

        def backward(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
            *end_gradients, loss_gradients = upstream

            def back(k: tf.Tensor, adjoint: Any, totals: Any) -> tuple[Any, ...]:
                now = [x[k] for x in history]
                sources = [*_real(now), *_real(fixed)]
                with tf.GradientTape() as tape:
                    tape.watch(sources)
                    new, loss = flat_step(now, fixed, k)
                gradients = tape.gradient(
                    [*_real(new), loss],
                    sources,
                    output_gradients=[*adjoint, loss_gradients[k]],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                gradients = [tf.convert_to_tensor(g) for g in gradients]
                local = gradients[len(adjoint) :]
                return k - 1, gradients[: len(adjoint)], [t + g for t, g in zip(totals, local, strict=True)]

            zeros = [tf.zeros_like(x) for x in _real(fixed)]
            # Of an embedding it may have some rows alone: a loop takes tensors.
            adjoint = [
                tf.convert_to_tensor(g) for g, x in zip(end_gradients, begin, strict=True) if x.dtype.is_floating
            ]
            _, adjoint, totals = tf.while_loop(
                lambda k, *_: k >= 0, back, (tf.constant(count - 1), adjoint, zeros), parallel_iterations=1
            )
            gradients = iter([*adjoint, *totals])
            return [next(gradients) if x.dtype.is_floating else None for x in inputs]

        return [*end, losses.stack()], backward

    *end, losses = run(*tf.nest.flatten((carried, constants)))
    return tf.nest.pack_sequence_as(carried, end), losses


def _real(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    return [x for x in tensors if x.dtype.is_floating]
