"""One task's outer loss: the query losses after the inner steps, weighted (MSL), or the last one alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.layers.random_draws import repeatable_draws_only
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.loss_scaling import scaled_gradient
from tf_mamlpp.meta.rematerialisation import recomputed_loop
from tf_mamlpp.meta.schedules import Phase
from tf_mamlpp.meta.settings import Learner
from tf_mamlpp.meta.task import Task, Tensors


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

    Example:
        >>> loss_weights(0, 2, 10), loss_weights(10, 2, 10)
        (array([0.5, 0.5]), array([0., 1.]))
    """
    n = inner_steps
    if epoch >= multi_step_loss_epochs:
        return np.eye(n)[-1]
    floor, fallen = 0.03 / n, epoch / (n * multi_step_loss_epochs)
    weights = np.full(n, max(1 / n - fallen, floor))
    weights[-1] = min(1 / n + (n - 1) * fallen, 1 - (n - 1) * floor)
    return weights


def task_loss(
    model: FunctionalModel,
    task: Task,
    state: Tensors,
    *,
    settings: Learner,
    phase: Phase,
    weights: tf.Tensor,
    scale: tf.Tensor | float | None = None,
) -> tuple[tf.Tensor, Tensors, tf.Tensor, tf.Tensor]:
    """The outer loss of one task.

    Formula:
        Σ_k w_k L_query(θ_{k+1}), θ_{k+1} = θ_k - α_k ∇L_support(θ_k); or its last term alone.

    Args:
        model: with the meta-learned start and rates, to which gradients flow.
        task: tensors without the tasks axis.
        state: the model's non-trainable variables.
        settings: of the learner.
        phase: of the epoch.
        weights: w, `[inner_steps]`.
        scale: of query losses whose gradients are taken at once, see `loss_scaling.scaled_gradient`.

    Returns:
        The scalar loss, the new state, and the last query pass's loss and outputs.

    Example:
        >>> import keras, tf_mamlpp as mp
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> learner = mp.MetaLearner(net, way=2, inner_steps=1)
        >>> task = {"support_images": tf.eye(2, 4), "support_labels": tf.constant([0, 1])}
        >>> task |= {"query_images": tf.eye(2, 4), "query_labels": tf.constant([0, 1])}
        >>> total, _, last, outputs = task_loss(
        ...     learner.functional_model,
        ...     task,
        ...     [],
        ...     settings=learner.settings,
        ...     phase=Phase(second_order=True, all_steps=False),
        ...     weights=tf.constant([1.0]),
        ... )
        >>> bool(total == last), outputs.shape
        (True, TensorShape([2, 2]))
    """
    start, state = model.begin(task, state, training=True)
    rates = tf.convert_to_tensor(model.rates.table)
    carried = model.fast(start), list(state)
    last = settings.inner_steps - 1

    def step(*arguments: Any) -> tuple[Any, tf.Tensor]:
        with repeatable_draws_only(model.model.name) if settings.rematerialise else nullcontext():
            return _outer_step(model, task, *arguments, settings=settings, phase=phase, scale=scale)[:2]

    if settings.rematerialise and last:
        carried, losses = recomputed_loop(step, last, carried, (start, rates))
        losses = tf.unstack(losses)
    else:
        losses = []
        # In a graph the steps are calls of one function, traced once; TensorFlow inlines them.
        traced_step = tf.function(step, autograph=False) if tf.inside_function() else step
        for k in range(last):
            carried, loss = traced_step(carried, (start, rates), tf.constant(k))
            losses.append(loss)
    # Not rematerialised: the backward pass begins with the last step, so that nothing is gained by forgetting it.
    (_, state), loss, outputs = _outer_step(
        model, task, carried, (start, rates), last, settings=settings, phase=phase, scale=scale, is_last=True
    )
    total = loss
    if phase.all_steps:
        total = tf.tensordot(tf.stack([*losses, loss]), tf.convert_to_tensor(weights), 1)
    return total, state, loss, outputs


def _outer_step(
    model: FunctionalModel,
    task: Task,
    carried: Any,
    constants: Any,
    k: int | tf.Tensor,
    *,
    settings: Learner,
    phase: Phase,
    scale: tf.Tensor | float | None,
    is_last: bool = False,
) -> tuple[Any, tf.Tensor, tf.Tensor | None]:
    """Inner step `k` and, if its query loss counts, the query pass after it.

    Returns:
        The new `carried` (fast weights and state), the query loss (0 if it does not count), and the query outputs.
    """
    (fast, state), (start, rates) = carried, constants
    has_query_pass = is_last or phase.all_steps
    # Each row of moving statistics is updated once: by the query pass that may read it, or else by the
    # support pass of its step.  Where all steps share one row that query passes read, the last one alone updates
    # it: nothing that a task reads may be its own record, whose gradient is stopped.
    one_row = settings.query_statistics == "running" and not settings.per_step_statistics
    query_records = has_query_pass and settings.query_statistics != "support" and (is_last or not one_row)
    fast, state = model.step(
        fast,
        state,
        task,
        k,
        start=start,
        rates=rates,
        second_order=phase.second_order,
        # In the first phase already, so that no run gets to the second one only to be refused there.
        checked=not settings.first_order,
        training=True,
        record=not query_records and not one_row,
    )
    if not has_query_pass:
        return (fast, list(state)), tf.zeros((), start[0].dtype), None
    # Tensors of their own: of one that came twice, each place would get the whole gradient.
    fast, state, start = tf.nest.map_structure(tf.identity, (list(fast), list(state), list(start)))
    sources = [*model.weights(fast, start), *(x for x in state if x.dtype.is_floating)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs, state, added = model.query_outputs(
            fast,
            state,
            task,
            k,
            statistics=settings.query_statistics,
            training=True,
            record=query_records,
            start=start,
        )
        loss = model.total_loss(task["query_labels"], outputs, added)
    if not settings.rematerialise:  # which keeps the intermediate results of one step at a time anyway
        # At once: all that the query pass computed would be kept until the outer backward pass came to it.
        gradients = scaled_gradient(tape, loss, sources, scale)
        loss = _with_known_gradients(loss, sources, gradients)
        # Else TensorFlow would compute the next steps beside it, and so keep their query passes too.
        with tf.control_dependencies([g for g in gradients if g is not None]):
            fast = [tf.identity(w) for w in fast]
    return (fast, list(state)), loss, outputs


def _with_known_gradients(value: tf.Tensor, sources: Tensors, gradients: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """`value` as a function of `sources`, with its gradients, which are known already."""

    def backward(upstream: tf.Tensor) -> list[tf.Tensor | None]:
        return [None if g is None else tf.cast(upstream, g.dtype) * g for g in gradients]

    @tf.custom_gradient
    def known(*_: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor | None]]]:
        return tf.stop_gradient(value), backward

    return known(*sources)
