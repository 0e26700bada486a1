"""Speed of a meta-update: time, memory, and share of the machine's matmul peak."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp import models
from tf_mamlpp.data import ImageBank, episodes
from tf_mamlpp.meta_learner import MetaLearner
from tf_mamlpp.methods import presets
from tf_mamlpp.runtime import cores


@dataclass(frozen=True)
class Case:
    """One shape of work: tasks an update, pictures, network, method."""

    way: int = 5
    shot: int = 1
    query_shot: int = 1
    tasks: int = 8
    image_shape: tuple[int, int, int] = (28, 28, 1)
    filters: int = 64
    first_order: bool = False
    multi_step_loss: bool = True


CASES: Mapping[str, Case] = {
    "omniglot_5way_1shot": Case(),
    "omniglot_20way_1shot": Case(way=20),
    "omniglot_5way_first_order": Case(first_order=True),
    "mini_imagenet_1shot": Case(query_shot=15, tasks=2, image_shape=(84, 84, 3), filters=48),
}


def run_case(case: Case, updates: int = 30) -> dict[str, float]:
    """Times MAML++ meta-updates on random pictures.

    Args:
        case: what to time.
        updates: how many; the first is reported apart.

    Returns:
        Milliseconds an update (median, and the fastest), tasks a second, seconds to the first step (tracing
        included), GFLOP an update of convolutions and matmuls counted from the graph, GFLOP/s, the float32 matmul
        peak measured before and after in this process (the higher), the share of it, the process's peak
        resident memory in MB, with what it was before the learner was built, milliseconds to draw a meta-batch from a
        memory-mapped bank with nothing else going on, and what share of an update's median that is.
    """
    peak = matmul_gflops()
    imported = _resident_mb()
    learner, batch = _learner(case), _random_tasks(case)
    starts: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            starts.append(time.perf_counter())

    began = time.perf_counter()
    data = tf.data.Dataset.from_tensors(batch).repeat()
    learner.fit(data, steps_per_epoch=updates, epochs=1, callbacks=[Clock()], verbose=0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    milliseconds = np.diff(starts) * 1e3
    peak = max(peak, matmul_gflops())
    gflop = count_gflop(learner, batch)
    rate = gflop / np.median(milliseconds) * 1e3
    input_milliseconds = _input_milliseconds(case)
    return {
        "milliseconds": float(np.median(milliseconds)),
        "fastest_milliseconds": float(milliseconds.min()),
        "tasks_per_second": float(case.tasks / np.median(milliseconds) * 1e3),
        "first_step_seconds": starts[0] - began,
        "gflop": gflop,
        "gflops_per_second": float(rate),
        "matmul_gflops_per_second": peak,
        "share_of_matmul_peak": float(rate / peak),
        "peak_memory_mb": memory,
        "memory_before_mb": imported,
        "input_milliseconds": input_milliseconds,
        "input_share": float(input_milliseconds / np.median(milliseconds)),
    }


def _learner(case: Case) -> MetaLearner:
    settings: dict[str, Any] = {
        **presets["maml++"],
        "derivative_order_annealing": False,
        "first_order": case.first_order,
        "multi_step_loss": case.multi_step_loss,
    }
    model = models.conv4(case.image_shape, case.way, case.filters)
    learner = MetaLearner(model, way=case.way, **settings)
    learner.compile(keras.optimizers.Adam(1e-3))
    return learner


def _random_tasks(case: Case) -> dict[str, tf.Tensor]:
    generator = np.random.default_rng(0)
    batch = {}
    for part, shot in (("support", case.shot), ("query", case.query_shot)):
        shape = (case.tasks, case.way * shot, *case.image_shape)
        batch[f"{part}_images"] = tf.constant(generator.normal(size=shape), tf.float32)
        labels = np.repeat(np.arange(case.way, dtype=np.int32), shot)
        batch[f"{part}_labels"] = tf.constant(np.tile(labels, (case.tasks, 1)))
    return batch


def _input_milliseconds(case: Case, batches: int = 40) -> float:
    classes, each = max(64, case.way), 2 * (case.shot + case.query_shot)
    pixels = np.random.default_rng(0).integers(0, 256, (classes * each, *case.image_shape), dtype=np.uint8)
    with tempfile.NamedTemporaryFile() as file:
        pixels.tofile(file.name)
        mapped = np.asarray(np.memmap(file.name, np.uint8, "r", shape=pixels.shape))
        bank = ImageBank(mapped, np.arange(classes + 1) * each, ("random",) * classes, "random pictures")
        drawn = iter(
            episodes(
                bank,
                way=case.way,
                shot=case.shot,
                query_shot=case.query_shot,
                tasks=case.tasks,
                count=2 * batches,
            )
        )
        for _ in range(batches):  # by then nothing is drawn in advance or for the first time
            next(drawn)
        began = time.perf_counter()
        for _ in range(batches):
            next(drawn)
        return (time.perf_counter() - began) / batches * 1e3


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def matmul_gflops(size: int = 1536, repeats: int = 3) -> float:
    """The machine's float32 matmul peak as this process sees it, one product on each core at once."""
    matrix = tf.random.normal((size, size))
    count = 4 * cores()

    @tf.function
    def products() -> tf.Tensor:
        one: Callable[[Any], Any] = lambda i: tf.reduce_sum((matrix + tf.cast(i, tf.float32)) @ matrix)  # noqa: E731
        return tf.map_fn(one, tf.range(count), parallel_iterations=count, fn_output_signature=tf.float32)

    products()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        products().numpy()
        times.append(time.perf_counter() - began)
    return count * 2 * size**3 / min(times) / 1e9


def count_gflop(learner: MetaLearner, batch: Mapping[str, tf.Tensor]) -> float:
    """GFLOP of convolutions and matmuls in one meta-update, from the graph of one task, pruned to its outputs."""
    task = {name: value[:1] for name, value in batch.items()}
    graph = tf.function(lambda: learner.meta_gradient(task)[0]).get_concrete_function().graph
    bodies = [
        g
        for g in _graphs(graph)
        if any(op.type.startswith("Conv2D") or op.type == "MatMul" for op in g.get_operations())
    ]
    return float(sum(_flop(op) for g in bodies for op in _reachable(g))) * len(batch["support_labels"]) / 1e9


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
    if op.type == "MatMul":
        inner = op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
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
