"""What runs in the benchmark's processes.  Imports no framework by itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tf_mamlpp.benchmark.cases import Case
from tf_mamlpp.runtime import memory_mb


def case_runner() -> Callable[..., dict[str, Any]]:
    """`benchmark.run_case`, for a `Worker`."""
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.benchmark.measure import run_case

    return run_case


def updates_of(contestant: str, case: Case, at_once: int = 1) -> Callable[[int], tuple[list[float], float]]:
    """A contestant at a case's work, for a `Worker`.

    Args:
        contestant: `ours`, or one of `benchmark_peers.PEERS`.
        case: the work.
        at_once: tasks that a peer computes at once; ours has one for each core.

    Returns:
        A function of a number of updates: the milliseconds of each, and the process's peak memory above what it was
        after the imports, in MB.
    """
    make: Callable[[], Any]
    if contestant == "ours":
        from tf_mamlpp.runtime import configure

        configure()
        from tf_mamlpp.benchmark.measure import Updates

        make = partial(Updates, case)
    else:
        make = partial(_peer(contestant), case, at_once)
    imported, _ = memory_mb()
    updates = make()
    return lambda count: (updates(count), memory_mb()[1] - imported)


def gradients_of(peer: str) -> Callable[[Case, int, Sequence[np.ndarray]], list[np.ndarray]]:
    """A peer's meta-gradient of a case, in float64, for a `Worker`: PyTorch crashes in a process with TensorFlow.

    Returns:
        A function of the case, the tasks computed at once, and the values of `PlainPyTorch.learned`.
    """
    make = _peer(peer)

    def gradient(case: Case, at_once: int, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        work = make(case, at_once, "float64")
        work.set_weights(weights)
        return [part.numpy() for part in work.meta_gradient()]

    return gradient


def _peer(name: str) -> Any:
    from tf_mamlpp.benchmark.pytorch_peers import PEERS

    if name != "pytorch":
        importlib.import_module(name)  # before memory is read
    return PEERS[name]
