"""Which modifications pay: differences between methods with their intervals.  Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.method_names import modifications_of, name_of

_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


ENOUGH_SEEDS = 3  # for an interval over seeds; with fewer it is over tasks and says nothing of other seeds


def t_95(df: int) -> float:
    """Student's two-sided 95 % quantile; from 5 degrees of freedom on to 0.1 % by its expansion around the normal's."""
    if df in _T_95:
        return _T_95[df]
    z = 1.959964
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    )


@dataclass(frozen=True)
class Difference:
    """A method's mean test metric minus another's, over the seeds that both have, and its 95 % interval.

    Attributes:
        value, half: the mean difference and half the interval's width.
        over: `seeds` (paired by seed, Student's t) or `tasks` (paired by test task, the seeds' mean of each).
        seeds: how many both have.
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


def paired_interval(differences: Sequence[float], quantile: float) -> tuple[float, float]:
    """The mean of paired differences and `quantile` standard errors of it."""
    d = np.asarray(differences, np.float64)
    return float(d.mean()), float(quantile * d.std(ddof=1) / math.sqrt(len(d)))


def compare(
    a: Sequence[RunRecord], b: Sequence[RunRecord], kind: str = "ensemble", over: str | None = None
) -> Difference | None:
    """`a` minus `b` on the same test tasks; None where they have no finished seed in common.

    Args:
        kind: `ensemble` or `single_model`.
        over: `seeds` or `tasks`; None for seeds if there are `ENOUGH_SEEDS`.
    """
    left, right = ({r.seed: r.per_task[kind] for r in records if r.per_task is not None} for records in (a, b))
    common = sorted(left.keys() & right.keys())
    if not common or len({len(tasks) for side in (left, right) for tasks in side.values()}) != 1:
        return None
    table = np.stack([left[seed] - right[seed] for seed in common])  # [seeds, tasks]
    if over is None:
        over = "seeds" if len(common) >= ENOUGH_SEEDS else "tasks"
    values, quantile = (table.mean(1), t_95(max(len(common) - 1, 1))) if over == "seeds" else (table.mean(0), 1.96)
    if len(values) < 2:
        return None
    return Difference(*paired_interval(values, quantile), over, len(common))


@dataclass(frozen=True)
class Simplification:
    """The smallest set of modifications within noise of all six.

    Attributes:
        against: the difference of every other method to `maml++`.
        smallest: the method with the fewest modifications that is not worse beyond its interval, be it over seeds or
            over tasks, the better of two equally small ones; None if `maml++` is alone or all others are worse.
        untested: the set of those modifications whose removal from `maml++` costs something, if no run has it.
    """

    against: Mapping[str, Difference]
    smallest: str | None
    untested: str | None


def simplify(groups: Mapping[str, Sequence[RunRecord]], minimise: bool = False) -> Simplification:
    """What can be left out of `maml++`, by the finished runs of each method in `groups`."""
    full, sign = groups.get("maml++", ()), -1 if minimise else 1
    against = {name: d for name, group in groups.items() if name != "maml++" and (d := compare(group, full))}

    def worse(name: str) -> bool:
        # Over three seeds an interval is so wide that it hides losses which the tasks of the same runs show.
        found = (against[name], compare(groups[name], full, over="tasks"))
        return any(d is not None and max(sign * d.low, sign * d.high) < 0 for d in found)

    near = [name for name in against if not worse(name)]
    smallest = min(near, key=lambda n: (len(modifications_of(n)), -sign * against[n].value), default=None)
    untested = None
    removals = {m: against.get(name_of(frozenset(MODIFICATIONS) - {m})) for m in MODIFICATIONS}
    if all(removals.values()):
        costly = frozenset(m for m in MODIFICATIONS if worse(name_of(frozenset(MODIFICATIONS) - {m})))
        candidate = name_of(costly)
        untested = candidate if candidate not in groups else None
    return Simplification(against, smallest, untested)
