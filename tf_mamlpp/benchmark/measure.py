"""Speed of a meta-update: time, memory, and share of the machine's matmul peak."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.benchmark.cases import Case, random_tasks
from tf_mamlpp.benchmark.flops import count_gflop
from tf_mamlpp.data import ImageBank, episodes
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models import by_name
from tf_mamlpp.runtime import cores, device_name, memory_mb


def run_case(case: Case, updates: int = 30) -> dict[str, Any]:
    """Times meta-updates on random pictures.

    Args:
        case: what to time.
        updates: how many, after the first.

    Returns:
        The device's name, milliseconds an update (median, and the fastest), tasks a second, seconds to the first step
        (tracing included), GFLOP an update of convolutions and matmuls counted from the graph, GFLOP/s, the float32
        matmul peak measured before and after in this process (the higher), the share of it, the process's peak
        resident memory in MB, how much of that is above what it was when this function was called, milliseconds to
        draw a meta-batch from a memory-mapped bank with nothing else going on, and what share of an update's median
        that is.
    """
    imported, _ = memory_mb()
    peak = matmul_gflops()
    began = time.perf_counter()
    work = Updates(case)
    work(1)
    first = time.perf_counter() - began
    milliseconds = work(updates)
    _, memory = memory_mb()
    peak = max(peak, matmul_gflops())
    median = float(np.median(milliseconds))
    # What is computed twice counts once, so that shares of the peak compare.
    counted = build_learner(replace(case, rematerialise=False)) if case.rematerialise else work.learner
    gflop = count_gflop(counted, work.batch)
    input_milliseconds = _input_milliseconds(case)
    return {
        "device": device_name(),
        "milliseconds": median,
        "fastest_milliseconds": min(milliseconds),
        "tasks_per_second": case.tasks / median * 1e3,
        "first_step_seconds": first,
        "gflop": gflop,
        "gflops_per_second": gflop / median * 1e3,
        "matmul_gflops_per_second": peak,
        "share_of_matmul_peak": gflop / median * 1e3 / peak,
        "peak_memory_mb": memory,
        "memory_above_import_mb": memory - imported,
        "input_milliseconds": input_milliseconds,
        "input_share": input_milliseconds / median,
    }


class Updates:
    """A learner at a case's work: `updates(count)` are the milliseconds of `count` more meta-updates, each."""

    def __init__(self, case: Case):
        self.learner = build_learner(case)
        self.batch = {name: tf.constant(value) for name, value in random_tasks(case).items()}

    def __call__(self, count: int) -> list[float]:
        milliseconds: list[float] = []

        class Clock(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                self.began = time.perf_counter()

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                milliseconds.append((time.perf_counter() - self.began) * 1e3)

        data = tf.data.Dataset.from_tensors(self.batch).repeat()
        self.learner.fit(data, steps_per_epoch=count, epochs=1, callbacks=[Clock()], verbose=0)
        return milliseconds


def build_learner(case: Case, dtype: str | None = None) -> MetaLearner:
    """The compiled learner of a case; `dtype` is a Keras dtype policy, None for the global one."""
    settings: dict[str, Any] = {
        **presets[case.method],
        "derivative_order_annealing": False,
        "first_order": case.first_order,
        "multi_step_loss": case.multi_step_loss,
        "rematerialise": case.rematerialise,
    }
    model = by_name.build(case.backbone, case.image_shape, case.way, filters=case.filters, dtype=dtype)
    learner = MetaLearner(model, way=case.way, inner_steps=case.inner_steps, inner_rate=case.inner_rate, **settings)
    learner.compile(keras.optimizers.Adam(1e-3))
    return learner


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


def matmul_gflops(size: int = 1536, repeats: int = 3) -> float:
    """The machine's float32 matmul peak as this process sees it, one product on each core at once."""
    matrix = tf.random.normal((size, size))
    count = 4 * cores()

    @tf.function
    def products() -> tf.Tensor:
        def one(i: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum((matrix + tf.cast(i, tf.float32)) @ matrix)

        return tf.map_fn(one, tf.range(count), parallel_iterations=count, fn_output_signature=tf.float32)

    products()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        products().numpy()
        times.append(time.perf_counter() - began)
    return count * 2 * size**3 / min(times) / 1e9
