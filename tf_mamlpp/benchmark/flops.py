"""Floating-point work of a graph: its convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner


def count_gflop(learner: MetaLearner, batch: Mapping[str, tf.Tensor]) -> float:
    """GFLOP of the convolutions and matrix products in one meta-update, counted in the graph of one task.

    Operations that no result needs are left out.  The body of a loop counts once, so a learner that rematerialises,
    which has loops, must be counted without.

    Args:
        learner: what the meta-update is of.
        batch: a meta-batch.

    Example:
        >>> from tf_mamlpp.benchmark.cases import Case, random_tasks
        >>> from tf_mamlpp.benchmark.measure import build_learner
        >>> tiny = Case(way=2, tasks=1, image_shape=(2, 2, 1), backbone="mlp", inner_steps=1)
        >>> count_gflop(build_learner(tiny), random_tasks(tiny)) > 0
        True
    """
    task = {name: value[:1] for name, value in batch.items()}
    gradient = tf.function(lambda: learner.meta_gradient(task)[0], autograph=False)  # as in `fit`
    graph = gradient.get_concrete_function().graph
    return _graph_flop(graph, graph.outputs) * len(batch["support_labels"]) / 1e9


def _graph_flop(graph: Any, outputs: Iterable[tf.Tensor]) -> float:
    """The operations that these outputs need, in the graph and in the functions that it calls."""
    needed: dict[Any, set[int]] = {}
    pending = list(outputs)
    while pending:
        tensor = pending.pop()
        if tensor.op not in needed:
            needed[tensor.op] = set()
            pending += tensor.op.inputs
        needed[tensor.op].add(tensor.value_index)
    return sum(_flop(op) + _called_flop(graph, op, results) for op, results in needed.items())


def _called_flop(graph: Any, op: Any, results: Iterable[int]) -> float:
    if op.type in ("While", "StatelessWhile"):
        body = graph._get_function(op.get_attr("body").name).graph
        return _graph_flop(body, body.outputs)
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        called = graph._get_function(op.get_attr("f").name).graph
        return _graph_flop(called, [called.outputs[i] for i in results])
    return 0.0


def _flop(op: Any) -> float:
    """A product and a sum for each number of the kernel at each output pixel of the convolution."""
    if op.type in ("MatMul", "BatchMatMulV2"):
        transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        inner = op.inputs[0].shape[-2 if transposed else -1]
        return float(2.0 * inner * np.prod(op.outputs[0].shape))
    if op.type == "Conv2D":
        kernel, pixels = op.inputs[1].shape, op.outputs[0].shape
    elif op.type == "Conv2DBackpropInput":
        kernel, pixels = op.inputs[1].shape, op.inputs[2].shape
    elif op.type == "Conv2DBackpropFilter":
        kernel, pixels = op.outputs[0].shape, op.inputs[2].shape
    else:
        return 0.0
    return float(2.0 * np.prod(kernel[:3]) * np.prod(pixels))
