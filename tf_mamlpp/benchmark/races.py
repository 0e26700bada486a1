"""Runs of the benchmark over several processes: growth, and peers interleaved.  Imports no framework."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

from tf_mamlpp.benchmark.cases import Case, growth_points
from tf_mamlpp.benchmark.contestants import updates_of
from tf_mamlpp.benchmark.process import Worker
from tf_mamlpp.errors import UserError
from tf_mamlpp.runtime import cores

PEER_BACKBONE = "conv4"


MODULES = {"pytorch": "torch", "learn2learn": "learn2learn", "higher": "higher"}
"""The peers, and what has to be installed for each."""


class Timed(NamedTuple):
    """A contestant's milliseconds an update (median, fastest), peak memory above import in MB, and use of the cores."""

    milliseconds: float
    fastest: float
    memory: float
    layout: str


def grow(updates: int) -> Iterator[tuple[str, int, float, float]]:
    """Times every point of `benchmark_cases.GROWTH`, for `benchmark_report.growth_table`."""
    for field, value, case in growth_points():
        with Worker(updates_of, "ours", case) as run:
            run(2)
            milliseconds, memory = run(updates)
        yield field, value, min(milliseconds), memory  # other programs on the machine disturb the fastest least


def check_peers(peers: Sequence[str]) -> None:
    """Refuses peers that cannot run.

    Raises:
        UserError: an unknown peer, or one that is not installed.
    """
    for peer in peers:
        if peer not in MODULES:
            raise UserError(f"unknown peer '{peer}'; peers are {', '.join(MODULES)}")
        if importlib.util.find_spec(MODULES[peer]) is None:
            raise UserError(f"peer '{peer}' is not installed: docs/benchmark.md says how")


def with_peers(cases: Mapping[str, Case]) -> tuple[dict[str, Case], list[str]]:
    """The cases that peers have a network for, and the names of the others.

    Raises:
        UserError: there is none.
    """
    possible = {name: case for name, case in cases.items() if case.backbone == PEER_BACKBONE}
    left_out = [name for name in cases if name not in possible]
    if not possible:
        raise UserError(f"case '{left_out[0]}' cannot be compared: peers have {PEER_BACKBONE} alone, choose another")
    return possible, left_out


def race(case: Case, peers: Sequence[str], updates: int) -> dict[str, Timed]:
    """Times the same work, MAML with fixed inner rates, by this package and by peers, in turns.

    Each is in a process of its own, and while one computes the others wait.  A peer's threads work together on one task
    or on one task each, whichever was faster in a trial.
    """
    case = replace(case, method="maml")
    with contextlib.ExitStack() as stack:
        layouts = {"ours": f"{cores()} tasks at once"}
        workers = {"ours": stack.enter_context(Worker(updates_of, "ours", case))}
        workers["ours"](2)
        for peer in peers:
            rivals = {f"{cores()} threads": Worker(updates_of, peer, case, 1)}
            if cores() > 1 and case.tasks > 1:
                rivals[f"{cores()} tasks at once"] = Worker(updates_of, peer, case, cores())
            for rival in rivals.values():
                stack.enter_context(rival)(1)
            trial = interleave(rivals, 4, block=2)
            layouts[peer] = min(rivals, key=lambda layout: median(trial[layout][0]))
            workers[peer] = rivals.pop(layouts[peer])
            for rival in rivals.values():
                rival.close()
        times = interleave(workers, updates)
    return {name: Timed(median(ms), min(ms), memory, layouts[name]) for name, (ms, memory) in times.items()}


def interleave(
    workers: Mapping[str, Any], updates: int, block: int = 3, pause: float = 0.2
) -> dict[str, tuple[list[float], float]]:
    """Lets each worker do `block` updates in turn until each has done at least `updates`.

    Args:
        workers: made with `updates_of`.
        updates: how many of each.
        block: how many in one turn.
        pause: seconds between turns, in which the last one's threads come to rest.

    Returns:
        For each the milliseconds of all its updates, and its peak memory above import in MB.
    """
    found: dict[str, tuple[list[float], float]] = {name: ([], 0.0) for name in workers}
    for _ in range(0, updates, block):
        for name, run in workers.items():
            time.sleep(pause)
            milliseconds, memory = run(block)
            found[name] = found[name][0] + milliseconds, memory
    return found
