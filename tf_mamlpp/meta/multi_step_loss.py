"""One task's outer loss: the query losses after each inner step, weighted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_mamlpp.meta.task import Tensors


def loss_weights(epoch: int, inner_steps: int, multi_step_loss_epochs: int) -> np.ndarray:
    """Weights of the query losses after each inner step: the paper's multi-step loss (MSL), section 4.

    Formula:
        w_k = max(1/N - epoch/(N E), 0.03/N) for k < N-1,  w_{N-1} = min(1/N + epoch (N-1)/(N E), 1 - (N-1) 0.03/N)
        while epoch < E; from epoch E on only the last step counts.

    Args:
        epoch: 0-based.
        inner_steps: N.
        multi_step_loss_epochs: E; 0 turns the multi-step loss off.

    Returns:
        float64 `[inner_steps]`, summing to 1.
    """
    n = inner_steps
    if epoch >= multi_step_loss_epochs:
        return np.eye(n)[-1]
    floor, fallen = 0.03 / n, epoch / (n * multi_step_loss_epochs)
    weights = np.full(n, max(1 / n - fallen, floor))
    weights[-1] = min(1 / n + (n - 1) * fallen, 1 - (n - 1) * floor)
    return weights


def with_known_gradients(value: tf.Tensor, sources: Tensors, gradients: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """`value` as a function of `sources`, with its gradients, which are known already."""

    def backward(upstream: tf.Tensor) -> list[tf.Tensor | None]:
        return [None if g is None else tf.cast(upstream, g.dtype) * g for g in gradients]

    @tf.custom_gradient
    def known(*_: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor | None]]]:
        return tf.stop_gradient(value), backward

    return known(*sources)
