"""Speed of an exported model: how fast it adapts and predicts."""

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
        folder: what `tf-mamlpp export` wrote.
        seconds: for each of the measurements.

    Returns:
        For `adapt_1shot`, `adapt_5shot` and `predict` (one picture): `..._milliseconds`, the median of one client's
        calls, and `..._milliseconds_95`, their 95th percentile.
        `adapt_1shot_tasks_per_second`, `adapt_5shot_tasks_per_second` and `predict_pictures_per_second` (64 pictures a
        call), by as many clients as there are cores.

    Raises:
        UserError: the folder holds no exported model.

    Example:
        ```python
        run_serving("models/omniglot/1")["predict_milliseconds"]
        ```

        >>> run_serving(tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' holds no exported model: write one with tf-mamlpp export
    """
    model = DeployedModel(folder)
    generator = np.random.default_rng(0)

    def pictures(count: int) -> np.ndarray:
        return generator.integers(0, 256, (count, *model.inputs.shape), np.uint8)

    names = [str(c) for c in range(model.trained_way)]
    measured: dict[str, float] = {}
    for shot in (1, 5):
        labels = np.repeat(np.arange(model.trained_way), shot)
        images = pictures(len(labels))
        adapt = partial(model.adapt, images, labels, names)
        adapt()  # the first call builds the executor
        measured |= _latency(f"adapt_{shot}shot", adapt, seconds)
        measured[f"adapt_{shot}shot_tasks_per_second"] = _rate(adapt, seconds)
    task = model.adapt(pictures(model.trained_way), np.arange(model.trained_way), names)
    predict_one, predict_many = (partial(model.predict, task, pictures(count)) for count in (1, 64))
    predict_one()
    measured |= _latency("predict", predict_one, seconds)
    measured["predict_pictures_per_second"] = 64 * _rate(predict_many, seconds)
    return measured


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
