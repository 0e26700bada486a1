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
        `device`, its name.
        `milliseconds`, `fastest_milliseconds`: the median and the fastest update; `tasks_per_second` of the median.
        `first_step_seconds`: until the first update is done, with building and tracing.
        `gflop` of the convolutions and matrix products in an update, see `count_gflop`; `gflops_per_second`.
        `matmul_gflops_per_second`: the float32 matmul peak, measured before and after in this process (the higher);
        `share_of_matmul_peak`.
        `peak_memory_mb` of the process; `memory_above_import_mb`, the part of it that was added by this function.
        `input_milliseconds`: to draw a meta-batch from a memory-mapped bank while nothing else runs; `input_share` of
        the median update.

    Example:
        ```python
        run_case(CASES["omniglot_5way_1shot"])["milliseconds"]
        ```

        >>> random_tasks(Case(tasks=2))["query_labels"].shape  # the tasks that are timed
        (2, 5)
    """
    memory_before, _ = memory_mb()
    peak = matmul_gflops()
    start = time.perf_counter()
    timer = UpdateTimer(case)
    timer(1)
    first_step_seconds = time.perf_counter() - start
    milliseconds = timer(updates)
    _, peak_memory = memory_mb()
    peak = max(peak, matmul_gflops())
    median = float(np.median(milliseconds))
    # Work that rematerialising repeats counts once, so that shares of the peak can be compared.
    counted = build_learner(replace(case, rematerialise=False)) if case.rematerialise else timer.learner
    gflop = count_gflop(counted, timer.batch)
    input_milliseconds = _input_milliseconds(case)
    return {
        "device": device_name(),
        "milliseconds": median,
        "fastest_milliseconds": min(milliseconds),
        "tasks_per_second": case.tasks / median * 1e3,
        "first_step_seconds": first_step_seconds,
        "gflop": gflop,
        "gflops_per_second": gflop / median * 1e3,
        "matmul_gflops_per_second": peak,
        "share_of_matmul_peak": gflop / median * 1e3 / peak,
        "peak_memory_mb": peak_memory,
        "memory_above_import_mb": peak_memory - memory_before,
        "input_milliseconds": input_milliseconds,
        "input_share": input_milliseconds / median,
    }


class UpdateTimer:
    """Trains a case's learner on random tasks.  Called with a count, it returns the milliseconds of as many updates.

    Args:
        case: the work.

    Attributes:
        learner: the learner, compiled.
        batch: the meta-batch that every update uses.

    Example:
        >>> tiny = Case(way=2, tasks=1, image_shape=(2, 2, 1), backbone="mlp", inner_steps=1)
        >>> milliseconds = UpdateTimer(tiny)(3)
        >>> len(milliseconds), min(milliseconds) > 0
        (3, True)
    """

    def __init__(self, case: Case):
        self.learner = build_learner(case)
        self.batch = {name: tf.constant(value) for name, value in random_tasks(case).items()}

    def __call__(self, count: int) -> list[float]:
        milliseconds: list[float] = []

        class Clock(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                self.start = time.perf_counter()

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                milliseconds.append((time.perf_counter() - self.start) * 1e3)

        data = tf.data.Dataset.from_tensors(self.batch).repeat()
        self.learner.epochs_done = 0  # the first epoch's phase, whatever the number of calls
        self.learner.fit(data, steps_per_epoch=count, epochs=1, callbacks=[Clock()], verbose=0)
        return milliseconds


def build_learner(case: Case, dtype: str | None = None) -> MetaLearner:
    """The learner of a case, compiled.

    Args:
        case: the work.
        dtype: a Keras dtype policy; None for the global one.

    Example:
        >>> build_learner(Case(way=3, image_shape=(2, 2, 1), backbone="mlp")).way
        3
    """
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
    """The time to draw a meta-batch from a memory-mapped bank."""
    classes, class_size = max(64, case.way), 2 * (case.shot + case.query_shot)
    pixels = np.random.default_rng(0).integers(0, 256, (classes * class_size, *case.image_shape), dtype=np.uint8)
    with tempfile.NamedTemporaryFile() as file:
        pixels.tofile(file.name)
        mapped = np.asarray(np.memmap(file.name, np.uint8, "r", shape=pixels.shape))
        bank = ImageBank(mapped, np.arange(classes + 1) * class_size, ("random",) * classes, "random pictures")
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
        for _ in range(batches):  # until caches are warm and what was drawn in advance is used up
            next(drawn)
        start = time.perf_counter()
        for _ in range(batches):
            next(drawn)
        return (time.perf_counter() - start) / batches * 1e3


def matmul_gflops(size: int = 1536, repeats: int = 3) -> float:
    """The machine's float32 matmul peak in GFLOP/s, with one product on each core at once.

    Args:
        size: rows and columns of the matrices.
        repeats: the fastest of so many runs counts.

    Example:
        >>> matmul_gflops(size=16, repeats=1) > 0
        True
    """
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
        start = time.perf_counter()
        products().numpy()
        times.append(time.perf_counter() - start)
    return count * 2 * size**3 / min(times) / 1e9
