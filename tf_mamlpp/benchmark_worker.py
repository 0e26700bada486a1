"""Contestants of the benchmark in processes of their own, so that memory is each one's own.  Imports no framework."""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tf_mamlpp.benchmark_cases import Case
from tf_mamlpp.errors import UserError


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process in MB: now, and at its peak; without Linux's /proc the peak for both."""
    try:
        # Not getrusage there: a new process's maximum begins with what its parent had.
        with open("/proc/self/status") as file:
            sizes = dict(line.split(":", 1) for line in file)
        now, peak = (int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return peak, peak


class Worker:
    """A fresh process that makes a function and answers calls of it, one after the other, over a pipe.

    Args:
        make: what returns the function; a module's own, called in the process.
        arguments: of `make`.

    Raises:
        UserError: the process ended, which is what the system does to one that takes too much memory.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_answer, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()

    def __call__(self, *arguments: Any) -> Any:
        try:
            self._pipe.send(arguments)
            answer, error = self._pipe.recv()
        except (EOFError, OSError) as broken:
            self._process.join()
            raise UserError(
                f"a process of the benchmark ended with status {self._process.exitcode}"
                + (": out of memory?" if self._process.exitcode == -9 else "")
            ) from broken
        if error:
            raise RuntimeError(f"in a process of the benchmark:\n{error}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _answer(pipe: Connection, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    function = None
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            function = function or make(*arguments)
            pipe.send((function(*call), None))
        except Exception:
            pipe.send((None, traceback.format_exc()))


def case_runner() -> Callable[..., dict[str, Any]]:
    """`benchmark.run_case`, for a `Worker`."""
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.benchmark import run_case

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
        from tf_mamlpp.benchmark import Updates

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
    from tf_mamlpp.benchmark_peers import PEERS

    if name != "pytorch":
        importlib.import_module(name)  # before memory is read
    return PEERS[name]
