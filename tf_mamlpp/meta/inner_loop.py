"""The differentiable inner loop: gradient steps on the support set.  It knows nothing of the outer loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from tf_mamlpp.meta.learned_rates import LearnedRates
from tf_mamlpp.meta.loss_scaling import scaled_gradient

State = Any


SupportLoss = Callable[[list[tf.Tensor], State, int], tuple[tf.Tensor, State]]


AfterStep = Callable[[list[tf.Tensor], State, int], State]


def adapt(
    support_loss: SupportLoss,
    weights: Sequence[tf.Tensor],
    state: State,
    rates: LearnedRates,
    steps: int,
    second_order: bool = True,
    after_step: AfterStep | None = None,
    scale: float | None = None,
) -> tuple[list[tf.Tensor], State]:
    """Gradient steps on the support set, each differentiable with respect to `weights` and `rates`.

    Formula:
        θ_{k+1} = θ_k - α_k ∇_{θ_k} L_support(θ_k), k = 0..steps-1

    Args:
        support_loss: `(θ_k, state, k) -> (scalar loss, new state)`.
        weights: θ_0, the tensors to adapt.
        state: what the model carries along from pass to pass (moving statistics, seeds).
        rates: α, of every step.
        steps: how many; may be more or fewer than the table has.
        second_order: False puts the inner gradients behind stop_gradient (first-order MAML).
        after_step: `(θ_{k+1}, state, k) -> new state`, called after every step (the query passes).
        scale: of the losses, see `loss_scaling.scaled_gradient`.

    Returns:
        θ_steps and the last state.

    Example:
        >>> rates = LearnedRates(tensors=1, inner_steps=2, rate=0.5)
        >>> (fast,), _ = adapt(lambda fast, state, k: (fast[0] ** 2, state), [tf.constant(1.0)], None, rates, steps=2)
        >>> float(fast)  # 1 - 0.5 * 2 = 0, and there the gradient is 0
        0.0

    References:
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning", arXiv 1703.03400, algorithm 1.
    """
    fast = list(weights)
    for k in range(steps):
        fast, state = update(partial(_at, support_loss, k), fast, state, rates.at(k), second_order, scale)
        if after_step:
            state = after_step(fast, state, k)
    return fast, state


def _at(support_loss: SupportLoss, k: int, fast: list[tf.Tensor], state: State) -> tuple[tf.Tensor, State]:
    return support_loss(fast, state, k)


def update(
    support_loss: Callable[[list[tf.Tensor], State], tuple[tf.Tensor, State]],
    fast: list[tf.Tensor],
    state: State,
    rates: Sequence[tf.Tensor],
    second_order: bool,
    scale: float | None = None,
) -> tuple[list[tf.Tensor], State]:
    """One step of `adapt`.

    Args:
        support_loss: `(θ_k, state) -> (scalar loss, new state)`.
        fast: θ_k.
        state: see `adapt`.
        rates: α_k, one for each tensor.
        second_order: whether the step's gradient is differentiated too.
        scale: see `adapt`.

    Returns:
        θ_{k+1} and the new state.

    Example:
        >>> rates = [tf.constant(0.25)]
        >>> (fast,), _ = update(lambda fast, state: (fast[0] ** 2, state), [tf.constant(1.0)], None, rates, True)
        >>> float(fast)
        0.5
    """
    gradients, state = support_gradient(support_loss, fast, state, scale)
    return descend(fast, rates, gradients, second_order), state


def support_gradient(
    support_loss: Callable[[list[tf.Tensor], State], tuple[tf.Tensor, State]],
    fast: list[tf.Tensor],
    state: State,
    scale: float | None = None,
) -> tuple[list[tf.Tensor], State]:
    """The gradient of an inner step.

    Formula:
        ∇_{θ_k} L_support(θ_k)

    Args:
        support_loss: `(θ_k, state) -> (scalar loss, new state)`.
        fast: θ_k.
        state: see `adapt`.
        scale: see `adapt`.

    Returns:
        One gradient for each tensor, zeros for what the loss does not depend on, and the new state.

    Example:
        >>> gradients, _ = support_gradient(lambda fast, state: (fast[0] ** 2, state), [tf.constant(1.0)], None)
        >>> float(gradients[0])
        2.0
    """
    with tf.GradientTape() as tape:
        tape.watch(fast)
        loss, state = support_loss(fast, state)
    return scaled_gradient(tape, loss, fast, scale, unconnected_gradients=tf.UnconnectedGradients.ZERO), state


def descend(
    weights: Sequence[tf.Tensor],
    rates: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
    second_order: bool = True,
) -> list[tf.Tensor]:
    """The inner update, tensor by tensor; in first order nothing flows through the gradients.

    Formula:
        θ_{k+1} = θ_k - α_k ∇L

    Example:
        >>> [float(w) for w in descend([tf.constant(1.0)], [tf.constant(0.25)], [tf.constant(2.0)])]
        [0.5]
    """
    if not second_order:
        gradients = [tf.stop_gradient(g) for g in gradients]
    return [w - rate * g for w, rate, g in zip(weights, rates, gradients, strict=True)]
