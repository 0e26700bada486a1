"""Benchmarks of several processes: growing cases, and peers that take turns.  Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

from tf_mamlpp.benchmark.cases import Case, growth_points
from tf_mamlpp.benchmark.contestants import update_timer
from tf_mamlpp.benchmark.process import Worker
from tf_mamlpp.errors import UserError
from tf_mamlpp.runtime import cores

PEER_BACKBONE = "conv4"
"""The network that peers have."""

PEER_MODULES = {"pytorch": "torch", "learn2learn": "learn2learn", "higher": "higher"}
"""The peers, and the module that must be installed for each."""


class RaceResult(NamedTuple):
    """A contestant's result.

    Attributes:
        milliseconds: the median update.
        fastest: the fastest update, in milliseconds.
        memory: peak memory above that after the imports, in MB.
        layout: how the cores were used.

    Example:
        >>> RaceResult(200.0, 190.0, 400.0, "2 threads")._asdict()
        {'milliseconds': 200.0, 'fastest': 190.0, 'memory': 400.0, 'layout': '2 threads'}
    """

    milliseconds: float
    fastest: float
    memory: float
    layout: str


def time_growth(updates: int) -> Iterator[tuple[str, int, float, float]]:
    """Times every point of `cases.GROWTH`, each in a process.

    Args:
        updates: how many of each point.

    Yields:
        The field that grows, its value, milliseconds of the fastest update, and memory above import in MB.

    Example:
        ```python
        lines, fits = report.growth_table(list(time_growth(updates=10)))
        ```

        >>> [field for field, value, case in growth_points()][:5]  # the order of the points
        ['tasks', 'tasks', 'tasks', 'tasks', 'way']
    """
    for field, value, case in growth_points():
        with Worker(update_timer, "ours", case) as run:
            run(2)
            milliseconds, memory = run(updates)
        yield field, value, min(milliseconds), memory  # other programs on the machine disturb the fastest least


def check_peers(peers: Sequence[str]) -> None:
    """Refuses peers that cannot run.

    Raises:
        UserError: an unknown peer, or one that is not installed.

    Example:
        >>> check_peers(["jax"])
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: unknown peer 'jax'; peers are pytorch, learn2learn, higher
    """
    for peer in peers:
        if peer not in PEER_MODULES:
            raise UserError(f"unknown peer '{peer}'; peers are {', '.join(PEER_MODULES)}")
        if importlib.util.find_spec(PEER_MODULES[peer]) is None:
            raise UserError(f"peer '{peer}' is not installed: docs/benchmark.md says how")


def cases_for_peers(cases: Mapping[str, Case]) -> tuple[dict[str, Case], list[str]]:
    """The cases that peers have a network for, and the names of the others.

    Raises:
        UserError: there is none.

    Example:
        >>> cases, left_out = cases_for_peers({"small": Case(), "deep": Case(backbone="resnet12")})
        >>> list(cases), left_out
        (['small'], ['deep'])
    """
    possible = {name: case for name, case in cases.items() if case.backbone == PEER_BACKBONE}
    left_out = [name for name in cases if name not in possible]
    if not possible:
        raise UserError(f"case '{left_out[0]}' cannot be compared: peers have {PEER_BACKBONE} alone, choose another")
    return possible, left_out


def race(case: Case, peers: Sequence[str], updates: int) -> dict[str, RaceResult]:
    """Times the same work, MAML with fixed inner rates, by this package and by peers.

    Each has a process.  They take turns: while one computes the others wait.  A peer's threads work together on one
    task, or each on a task, whichever was faster in a trial.

    Args:
        case: the work.
        peers: of `PEER_MODULES`.
        updates: how many of each.

    Returns:
        The results of `ours` and of each peer.

    Example:
        ```python
        results = race(CASES["omniglot_5way_1shot"], ["pytorch"], updates=12)
        results["pytorch"].fastest / results["ours"].fastest
        ```

        >>> check_peers([])  # raises an error if a peer is not installed
    """
    case = replace(case, method="maml")
    with contextlib.ExitStack() as stack:
        layouts = {"ours": f"{cores()} tasks at once"}
        workers = {"ours": stack.enter_context(Worker(update_timer, "ours", case))}
        workers["ours"](2)
        for peer in peers:
            rivals = {f"{cores()} threads": Worker(update_timer, peer, case, 1)}
            if cores() > 1 and case.tasks > 1:
                rivals[f"{cores()} tasks at once"] = Worker(update_timer, peer, case, cores())
            for rival in rivals.values():
                stack.enter_context(rival)(1)
            trial = take_turns(rivals, 4, block=2)
            layouts[peer] = min(rivals, key=lambda layout: median(trial[layout][0]))
            workers[peer] = rivals.pop(layouts[peer])
            for rival in rivals.values():
                rival.close()
        times = take_turns(workers, updates)
    return {name: RaceResult(median(ms), min(ms), memory, layouts[name]) for name, (ms, memory) in times.items()}


def take_turns(
    workers: Mapping[str, Any], updates: int, block: int = 3, pause: float = 0.2
) -> dict[str, tuple[list[float], float]]:
    """Lets each worker do `block` updates in turn until each has done at least `updates`.

    Args:
        workers: of `update_timer`.
        updates: how many of each.
        block: how many in one turn.
        pause: seconds between turns, in which the threads of the last worker come to rest.

    Returns:
        For each worker the milliseconds of all its updates, and its peak memory above import in MB.

    Example:
        >>> workers = {"fast": lambda count: ([1.0] * count, 50.0), "slow": lambda count: ([9.0] * count, 80.0)}
        >>> take_turns(workers, updates=4, block=2, pause=0)
        {'fast': ([1.0, 1.0, 1.0, 1.0], 50.0), 'slow': ([9.0, 9.0, 9.0, 9.0], 80.0)}
    """
    results: dict[str, tuple[list[float], float]] = {name: ([], 0.0) for name in workers}
    for _ in range(0, updates, block):
        for name, run in workers.items():
            time.sleep(pause)
            milliseconds, memory = run(block)
            results[name] = results[name][0] + milliseconds, memory
    return results
