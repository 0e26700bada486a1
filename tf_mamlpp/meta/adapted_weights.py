"""Which weights the inner loop changes."""

from __future__ import annotations

import re
from collections.abc import Callable

import keras

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.batch_norms import batch_norms, own_variables


def adapted_variables(model: keras.Model, adapted: str | Callable[[str], bool]) -> list[int]:
    """Which of `model.trainable_variables` the inner loop changes; never batch-norm weights (paper, section 4).

    Args:
        model: with its normalisation layers converted.  Layers with `trainable=False` are left alone.
        adapted: `all`, `head` (the last layer that has weights), `body` (all but the head), another string, a regular
            expression that is searched for in a variable's path (`conv4/conv0/kernel`), or a predicate on it.

    Returns:
        Their positions.

    Raises:
        UserError: the choice leaves nothing, or is a head that is frozen.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(3)])
        >>> adapted_variables(model, "head"), adapted_variables(model, lambda path: path.endswith("bias"))
        ([2, 3], [1, 3])
    """
    excluded = {id(v) for norm in batch_norms(model) for v in norm.weights}
    wanted = _choice(adapted, model)
    chosen = [i for i, v in enumerate(model.trainable_variables) if id(v) not in excluded and wanted(v)]
    if not chosen:
        raise UserError(
            f"adapted={adapted!r} leaves the inner loop no weight to change in model '{model.name}': it is all, head, "
            f"body, or matches paths such as '{model.trainable_variables[0].path}'"
        )
    return chosen


def head_weights(model: keras.Model) -> set[int]:
    """The ids of the weights of the last layer that has some, batch norms aside; it may be frozen.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(3)])
        >>> [tuple(v.shape) for v in model.weights if id(v) in head_weights(model)]
        [(4, 3), (3,)]
    """
    norms = {id(v) for norm in batch_norms(model) for v in norm.weights}
    # By identity: two layers of nested models may have one path.
    owned = [own_variables(model, layer._trainable_variables) for layer in model._flatten_layers()]
    owners = {id(v): weights for weights in owned for v in weights if id(v) not in norms}
    last = next((owners[id(v)] for v in reversed(model.weights) if id(v) in owners), [])
    return {id(v) for v in last}


def _choice(adapted: str | Callable[[str], bool], model: keras.Model) -> Callable[[keras.Variable], bool]:
    if callable(adapted):
        return lambda v: adapted(v.path)
    if adapted == "all":
        return lambda v: True
    if adapted in ("head", "body"):
        head = head_weights(model)
        if adapted == "head" and head and head.isdisjoint(map(id, model.trainable_variables)):
            raise UserError(f"the head of model '{model.name}', its last layer, is frozen: the inner loop needs it")
        return lambda v: (id(v) in head) == (adapted == "head")
    return lambda v: bool(re.search(adapted, v.path))


def head_positions(model: keras.Model, adapted: list[int], way: int, kind: str) -> list[int]:
    """Where the head is, of which each task has its own start.

    Args:
        model: with its normalisation layers converted.
        adapted: positions that the inner loop changes.
        way: classes of a task.
        kind: of the head, to be named.

    Returns:
        Positions of the head's weights in `model.trainable_variables`; their last axis are the classes.

    Raises:
        UserError: the inner loop does not adapt the head, or it has another width.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(3)])
        >>> head_positions(model, [0, 1, 2, 3], way=3, kind="shared")
        [2, 3]
    """
    head = adapted_variables(model, "head")
    if not set(head) <= set(adapted):
        raise UserError(f"head={kind} is each task's own, so the inner loop has to adapt the head too")
    wrong = [v.path for v in (model.trainable_variables[i] for i in head) if v.shape[-1] != way]
    if wrong:
        raise UserError(f"head={kind} needs a head whose last axis is the {way} classes; '{wrong[0]}' has another")
    return head
