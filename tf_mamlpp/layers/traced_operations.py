"""What a piece of Python code adds to the graph that is being traced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def traced_operations() -> Iterator[list[tf.Operation]]:
    """Collects the operations that are traced inside; eagerly there are none.

    Yields:
        A list that is filled at the end, in the order in which they were made: inputs come first.

    Example:
        >>> @tf.function(autograph=False)
        ... def doubled(x):
        ...     with traced_operations() as made:
        ...         y = x + x
        ...     print([operation.type for operation in made])
        ...     return y
        >>> _ = doubled(tf.constant(1.0))
        ['AddV2']
    """
    made: list[tf.Operation] = []
    if tf.executing_eagerly():
        yield made
        return
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    yield made
    made += graph.get_operations()[before:]


def with_inner(operation: tf.Operation) -> Iterator[tf.Operation]:
    """An operation, and those of the functions that it calls: branches, loops, functions inside functions.

    Example:
        >>> @tf.function(autograph=False)
        ... def rectified(x):
        ...     with traced_operations() as made:
        ...         y = tf.cond(x > 0, lambda: x * 2, lambda: tf.exp(x))
        ...     print("Exp" in [inner.type for operation in made for inner in with_inner(operation)])
        ...     return y
        >>> _ = rectified(tf.constant(1.0))
        True
    """
    yield operation
    for graph in called_graphs(operation):
        for inner in graph.get_operations():
            yield from with_inner(inner)


def called_graphs(operation: tf.Operation) -> Iterator[Any]:
    """The graphs that an operation calls: branches, a loop's condition and body, a function.

    Example:
        >>> @tf.function(autograph=False)
        ... def rectified(x):
        ...     y = tf.cond(x > 0, lambda: x * 2, lambda: tf.exp(x))
        ...     print(len(list(called_graphs(y.op.inputs[0].op))))
        ...     return y
        >>> _ = rectified(tf.constant(1.0))
        2
    """
    for attribute in operation.node_def.attr.values():
        for called in [attribute.func, *attribute.list.func]:
            function: Any = operation.graph._get_function(called.name) if called.name else None
            if hasattr(function, "graph"):
                yield function.graph
