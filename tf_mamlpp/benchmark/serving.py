"""Speed of an exported model in use: how fast it adapts to tasks, and how fast it then predicts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.runtime import cores


def run_serving(folder: str | os.PathLike[str], seconds: float = 5.0) -> dict[str, float]:
    """Times `adapt` and `predict` of an exported model on random pictures of the trained size.

    Args:
        folder: what `bin/export.py` wrote.
        seconds: for each of the measurements.

    Returns:
        Milliseconds of learning a 1-shot and a 5-shot task and of answering about one picture (median and 95th
        percentile, one client); tasks learned and pictures answered (64 a call) a second, by as many clients as there
        are cores.
    """
    model = DeployedModel(folder)
    generator = np.random.default_rng(0)

    def pictures(count: int) -> np.ndarray:
        return generator.integers(0, 256, (count, *model.image_size, model.channels), np.uint8)

    names = [str(c) for c in range(model.way)]
    found: dict[str, float] = {}
    for shot in (1, 5):
        labels = np.repeat(np.arange(model.way), shot)
        images = pictures(len(labels))
        learn = partial(model.learn, images, labels, names)
        learn()  # the first call builds the executor
        found |= _latency(f"adapt_{shot}shot", learn, seconds)
        found[f"adapt_{shot}shot_tasks_per_second"] = _rate(learn, seconds)
    learned, one, many = model.learn(pictures(model.way), np.arange(model.way), names), pictures(1), pictures(64)
    model.answer(learned, one)
    found |= _latency("predict", partial(model.answer, learned, one), seconds)
    found["predict_pictures_per_second"] = 64 * _rate(partial(model.answer, learned, many), seconds)
    return found


def _latency(name: str, function: Callable[[], Any], seconds: float) -> dict[str, float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return {
        f"{name}_milliseconds": float(np.median(times)),
        f"{name}_milliseconds_95": float(np.percentile(times, 95)),
    }


def _rate(function: Callable[[], Any], seconds: float) -> float:
    """Calls a second by as many clients as there are cores."""
    end = time.perf_counter() + seconds

    def client(_: int) -> int:
        calls = 0
        while time.perf_counter() < end:
            function()
            calls += 1
        return calls

    start = time.perf_counter()
    with ThreadPoolExecutor(cores()) as clients:
        calls = sum(clients.map(client, range(cores())))
    return calls / (time.perf_counter() - start)
