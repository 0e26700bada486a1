"""The functions that run in the benchmark's processes.  Imports no TensorFlow by itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tf_mamlpp.benchmark.cases import Case
from tf_mamlpp.runtime import memory_mb


def case_runner() -> Callable[..., dict[str, Any]]:
    """`measure.run_case`, for a `Worker`.

    Example:
        >>> case_runner().__name__
        'run_case'
    """
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.benchmark.measure import run_case

    return run_case


def update_timer(contestant: str, case: Case, at_once: int = 1) -> Callable[[int], tuple[list[float], float]]:
    """A timer of a contestant's meta-updates, for a `Worker`.

    Args:
        contestant: `ours`, or one of `pytorch_peers.PEERS`.
        case: the work.
        at_once: tasks that a peer computes at once; this package computes one on each core.

    Returns:
        A function of a number of updates.  It returns the milliseconds of each, and how many MB the process's peak
        memory is above its memory after the imports.

    Example:
        >>> tiny = Case(way=2, tasks=1, image_shape=(2, 2, 1), backbone="mlp", inner_steps=1)
        >>> run = update_timer("ours", tiny)
        >>> milliseconds, memory = run(3)
        >>> len(milliseconds)
        3
    """
    make: Callable[[], Any]
    if contestant == "ours":
        from tf_mamlpp.runtime import configure

        configure()
        from tf_mamlpp.benchmark.measure import UpdateTimer

        make = partial(UpdateTimer, case)
    else:
        make = partial(_peer(contestant), case, at_once)
    memory_after_imports, _ = memory_mb()
    timer = make()
    return lambda count: (timer(count), memory_mb()[1] - memory_after_imports)


def peer_meta_gradient(peer: str) -> Callable[[Case, int, Sequence[np.ndarray]], list[np.ndarray]]:
    """A peer's meta-gradient in float64, for a `Worker`: PyTorch crashes in a process that has TensorFlow.

    Args:
        peer: one of `pytorch_peers.PEERS`.

    Returns:
        A function of the case, the tasks computed at once, and the values of `PlainPyTorch.learned`.

    Example:
        ```python
        with Worker(peer_meta_gradient, "pytorch") as gradient:
            gradient(case, 1, weights)
        ```

        >>> from tf_mamlpp.benchmark.races import PEER_MODULES
        >>> list(PEER_MODULES)
        ['pytorch', 'learn2learn', 'higher']
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
