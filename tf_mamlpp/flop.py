"""Floating-point work of a graph: its convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.meta_learner import MetaLearner


def count_gflop(learner: MetaLearner, batch: Mapping[str, tf.Tensor]) -> float:
    """GFLOP of convolutions and matmuls in one meta-update, from the graph of one task, pruned to its outputs.

    The bodies of loops count once: a learner that rematerialises has to be counted without.
    """
    task = {name: value[:1] for name, value in batch.items()}
    graph = tf.function(lambda: learner.meta_gradient(task)[0]).get_concrete_function().graph
    return float(sum(_flop(op) for g in _graphs(graph) for op in _reachable(g))) * len(batch["support_labels"]) / 1e9


def _graphs(graph: Any) -> list[Any]:
    """The graph and those of the functions that it calls, such as a loop's body."""
    found, names = [graph], set()
    for current in found:
        for op in current.get_operations():
            for attribute in ("body", "f"):
                try:
                    name = op.get_attr(attribute).name
                except (ValueError, AttributeError):
                    continue
                inner = current._get_function(name)
                if inner is not None and name not in names:
                    names.add(name)
                    found.append(inner.graph)
    return found


def _reachable(graph: Any) -> list[Any]:
    pending, seen = [t.op for t in graph.outputs], {}
    while pending:
        op = pending.pop()
        if op.name not in seen:
            seen[op.name] = op
            pending += [t.op for t in op.inputs]
    return list(seen.values())


def _flop(op: Any) -> float:
    """2 multiply-adds: every output pixel of the convolution times the size of the kernel."""
    if op.type in ("MatMul", "BatchMatMulV2"):
        transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        inner = op.inputs[0].shape[-2 if transposed else -1]
        return 2.0 * inner * np.prod(op.outputs[0].shape)
    if op.type == "Conv2D":
        kernel, pixels = op.inputs[1].shape, op.outputs[0].shape
    elif op.type == "Conv2DBackpropInput":
        kernel, pixels = op.inputs[1].shape, op.inputs[2].shape
    elif op.type == "Conv2DBackpropFilter":
        kernel, pixels = op.outputs[0].shape, op.inputs[2].shape
    else:
        return 0.0
    return 2.0 * np.prod(kernel[:3]) * np.prod(pixels)
