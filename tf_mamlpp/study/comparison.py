"""Differences between methods with their intervals, and what can be left out of MAML++.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tf_mamlpp.intervals import NORMAL_95, mean_interval
from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.method_names import modifications_of, name_of

ENOUGH_SEEDS = 3
"""Seeds that an interval over seeds needs.  With fewer it is over tasks, and says nothing about other seeds."""


_STUDENT_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def student_95(degrees_of_freedom: int) -> float:
    """Student's two-sided 95 % quantile: standard errors to either side of the mean of few values.

    From 5 degrees of freedom on it is the expansion around the normal distribution's quantile, exact to 0.1 %.

    Args:
        degrees_of_freedom: one less than the number of values, at least 1.

    Example:
        >>> student_95(2)
        4.303
        >>> round(student_95(30), 3)
        2.042

    References:
        Abramowitz and Stegun, Handbook of Mathematical Functions, equation 26.7.5.
    """
    if degrees_of_freedom in _STUDENT_95:
        return _STUDENT_95[degrees_of_freedom]
    z, n = 1.959964, degrees_of_freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


@dataclass(frozen=True)
class Difference:
    """A method's mean test metric minus another's, over the seeds that both have, with its 95 % interval.

    Attributes:
        value: the mean difference.
        half: half the interval's width.
        over: `seeds` (paired by seed, Student's t) or `tasks` (paired by test task, each task's mean over seeds).
        seeds: how many seeds both have.

    Example:
        >>> Difference(value=0.75, half=0.5, over="seeds", seeds=3).low
        0.25
    """

    value: float
    half: float
    over: str
    seeds: int

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half


def compare(a: Sequence[RunRecord], b: Sequence[RunRecord], over_tasks: bool = False) -> Difference | None:
    """The test metric of the runs `a` minus that of the runs `b`, on the same test tasks.

    Args:
        a, b: the runs of two methods.
        over_tasks: also where both methods have `ENOUGH_SEEDS`, over which the interval is else.

    Returns:
        The difference; None where they have no finished seed in common.

    Example:
        >>> import json
        >>> def finished_run(method, accuracies):
        ...     folder = tmp_path / method
        ...     folder.mkdir()
        ...     rows = [f"{task},{accuracy},{accuracy}" for task, accuracy in enumerate(accuracies)]
        ...     _ = (folder / "test_tasks.csv").write_text("\\n".join(["task,ensemble,single_model", *rows]))
        ...     _ = (folder / "results.json").write_text(json.dumps({"accuracy": 0.5}))
        ...     return RunRecord(method, seed=0, folder=folder, updates=100)
        >>> full, plain = finished_run("maml++", [0.75, 1.0]), finished_run("maml", [0.25, 0.75])
        >>> difference = compare([full], [plain])
        >>> difference.value, difference.over
        (0.375, 'tasks')
    """
    left, right = ({r.seed: r.per_task["ensemble"] for r in records if r.per_task is not None} for records in (a, b))
    common = sorted(left.keys() & right.keys())
    if not common or len({len(tasks) for side in (left, right) for tasks in side.values()}) != 1:
        return None
    table = np.stack([left[seed] - right[seed] for seed in common])  # [seeds, tasks]
    if len(common) >= ENOUGH_SEEDS and not over_tasks:
        return Difference(*mean_interval(table.mean(1), student_95(len(common) - 1)), "seeds", len(common))
    if table.shape[1] < 2:
        return None
    return Difference(*mean_interval(table.mean(0), NORMAL_95), "tasks", len(common))


@dataclass(frozen=True)
class Simplification:
    """The smallest set of modifications that is within noise of all six.

    Attributes:
        against: the difference of every other method to `maml++`.
        smallest: the method with the fewest modifications that is not worse than `maml++` beyond its interval, neither
            over seeds nor over tasks; the better of two equally small ones.  None if there is none.
        untested: where each removal from `maml++` was run: the method that has just the modifications whose removal
            costs something.  None if a run has it already.

    Example:
        >>> Simplification(against={}, smallest=None, untested="maml+learned_rates").untested
        'maml+learned_rates'
    """

    against: Mapping[str, Difference]
    smallest: str | None
    untested: str | None


def simplify(groups: Mapping[str, Sequence[RunRecord]], minimise: bool = False) -> Simplification:
    """Finds what can be left out of `maml++`.

    Args:
        groups: the runs of each method.
        minimise: whether the metric is an error, better when smaller.

    Example:
        >>> simplify({"maml++": [RunRecord("maml++", seed=0, folder=tmp_path, updates=100)]})
        Simplification(against={}, smallest=None, untested=None)
    """
    full, sign = groups.get("maml++", ()), -1 if minimise else 1
    compared = {name: compare(runs, full) for name, runs in groups.items() if name != "maml++"}
    against = {name: difference for name, difference in compared.items() if difference}

    def worse(name: str) -> bool:
        # Over three seeds an interval is so wide that it hides losses which the tasks of the same runs show.
        differences = (against[name], compare(groups[name], full, over_tasks=True))
        return any(d is not None and max(sign * d.low, sign * d.high) < 0 for d in differences)

    not_worse = [name for name in against if not worse(name)]
    smallest = min(not_worse, key=lambda n: (len(modifications_of(n)), -sign * against[n].value), default=None)
    untested = None
    removals = {m: name_of(frozenset(MODIFICATIONS) - {m}) for m in MODIFICATIONS}
    if all(name in against for name in removals.values()):
        candidate = name_of(frozenset(m for m, name in removals.items() if worse(name)))
        untested = candidate if candidate not in groups else None
    return Simplification(against, smallest, untested)
