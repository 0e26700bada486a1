"""Which operations stand between weights and a traced gradient: those that are differentiated again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_mamlpp.layers.traced_operations import called_graphs

# Operations that call other graphs, and how many of their inputs are not those graphs' own.
_CALLS = {
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile"), 0),
    **dict.fromkeys(("If", "StatelessIf", "Case", "StatelessCase"), 1),
}

# Their results do not depend on the values of what they are given.
_OF_SHAPE_ALONE = ("ZerosLike", "OnesLike", "Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs")


class Differentiated(NamedTuple):
    """An operation that a second derivative goes through.

    Attributes:
        operation: it.
        inputs: positions of those of its inputs that depend on the weights.
        callers: the operations that call its graph, the outermost first.

    Example:
        >>> Differentiated(operation=None, inputs=(1,), callers=()).inputs
        (1,)
    """

    operation: tf.Operation
    inputs: tuple[int, ...]
    callers: tuple[tf.Operation, ...]

    @property
    def name(self) -> str:
        """Its name; inside of what is called, the outermost caller's and its own last part."""
        own = self.operation.name
        name = f"{self.callers[0].name}/{own.rsplit('/', 1)[-1]}" if self.callers else own
        return name.replace("gradient_tape/", "")

    @property
    def scopes(self) -> list[str]:
        """Names whose parts tell which layer it belongs to, the surest first."""
        names = [operation.name for operation in (self.operation, *reversed(self.callers))]
        if self.callers:  # the gradient of a call has no name of its own, but is given what the call returned
            names += [t.op.name for t in self.callers[0].inputs if t.op.type in _CALLS]
        return names


def operations_between(
    operations: Sequence[tf.Operation], sources: Sequence[tf.Tensor], targets: Sequence[tf.Tensor]
) -> Iterator[Differentiated]:
    """The operations on the paths from `sources` to `targets` that TensorFlow's derivative of the targets takes.

    Also those in branches, loops and functions.  What a custom gradient replaces is left out.

    Args:
        operations: of one graph, in the order in which they were made.
        sources: tensors of that graph, or from outside of it.
        targets: of that graph.

    Yields:
        They, in no order that matters.  Calls of other graphs are not among them; the operations of these graphs are.

    Example:
        >>> from tf_mamlpp.layers.traced_operations import traced_operations
        >>> @tf.function(autograph=False)
        ... def waves(x):
        ...     with traced_operations() as made:
        ...         y = tf.sin(tf.exp(x)) + tf.cos(1.0)
        ...         unused = tf.tanh(x)
        ...     print(sorted(found.operation.type for found in operations_between(made, [x], [y])))
        ...     return y
        >>> _ = waves(tf.constant(1.0))
        ['AddV2', 'Exp', 'Sin']
    """
    if not operations:
        return
    yield from _between(operations, _within(operations[0].graph, sources), {t.ref() for t in targets})


def _within(graph: Any, tensors: Sequence[tf.Tensor]) -> set[Any]:
    """References of the tensors, and of what stands for them inside of a function's graph."""
    outer = {t.ref() for t in tensors}
    return outer | {inner.ref() for tensor, inner in getattr(graph, "captures", ()) if tensor.ref() in outer}


def _between(
    operations: Sequence[tf.Operation], sources: set[Any], targets: set[Any], callers: tuple[tf.Operation, ...] = ()
) -> Iterator[Differentiated]:
    dependent = _dependent(operations, sources)
    needed = set(targets)
    for operation in reversed(operations):
        if not any(t.ref() in needed and t.ref() in dependent for t in operation.outputs):
            continue
        followed = _followed(operation, needed)
        needed.update(operation.inputs[i].ref() for i in followed)
        inputs = tuple(i for i in followed if operation.inputs[i].ref() in dependent)
        if not inputs:
            continue
        if operation.type not in _CALLS:
            yield Differentiated(operation, inputs, callers)
            continue
        for graph in called_graphs(operation):
            inner = _inner_sources(operation, graph, dependent)
            results = {t.ref() for t in graph.outputs}
            yield from _between(graph.get_operations(), inner, results, (*callers, operation))


def _followed(operation: tf.Operation, needed: set[Any]) -> Sequence[int]:
    """The inputs that a derivative goes on to: of a custom gradient the arguments, not how the results were made."""
    everything = range(len(operation.inputs))
    if operation.type != "IdentityN" or "_gradient_op_type" not in operation.node_def.attr:
        return everything
    # It is given the results and the arguments.  Of what it returns, only the results are used.
    return [i for i in everything if operation.outputs[i].ref() not in needed and not operation.outputs[i].consumers()]


def _dependent(operations: Sequence[tf.Operation], sources: set[Any]) -> set[Any]:
    """References of all tensors that depend on the sources, these included."""
    dependent = set(sources)
    for operation in operations:
        if operation.type in _OF_SHAPE_ALONE or not any(t.ref() in dependent for t in operation.inputs):
            continue
        dependent.update(t.ref() for t in operation.outputs if _has_derivative(t.dtype))
    return dependent


def _has_derivative(dtype: tf.DType) -> bool:
    return dtype.is_floating or dtype.is_complex or dtype == tf.variant  # lists of tensors, which loops keep


def _inner_sources(operation: tf.Operation, graph: Any, dependent: set[Any]) -> set[Any]:
    """Which inputs of a called graph depend on the sources; in a loop also by way of an earlier round."""
    given = list(operation.inputs)[_CALLS[operation.type] :]
    sources = {inner.ref() for outer, inner in zip(given, graph.inputs, strict=False) if outer.ref() in dependent}
    if operation.type not in ("While", "StatelessWhile"):
        return sources
    while True:
        found = _dependent(graph.get_operations(), sources)
        rounds = zip(graph.outputs, graph.inputs, strict=False)
        more = {inner.ref() for result, inner in rounds if result.ref() in found} - sources
        if not more:
            return sources
        sources |= more
