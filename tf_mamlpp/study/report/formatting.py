"""What the sections of a study's report share: numbers as text, and figures as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from tf_mamlpp import plotting
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.comparison import Difference
from tf_mamlpp.study.report.document import Block, Figure

NOTHING = "–"


class Figures:
    """Writes figures into a folder; each becomes a block, or nothing where there is nothing to draw."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, name: str, drawing: Drawing | None, caption: str) -> list[Block]:
        if drawing is None:
            return []
        plotting.save(drawing, self.folder, name)
        return [Figure(self.folder, name, caption)]


def number(value: float, metric: str, sign: bool = False) -> str:
    """Percent of an accuracy, an error as it is; a true minus sign."""
    text = f"{100 * value:{'+' if sign else ''}.2f}" if metric == "accuracy" else f"{value:{'+' if sign else ''}.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def over_seeds(values: Sequence[float], metric: str) -> str:
    """`mean ± standard deviation`, or the one value."""
    if not values:
        return NOTHING
    mean = number(float(np.mean(values)), metric)
    return f"{mean} ± {number(float(np.std(values, ddof=1)), metric)}" if len(values) > 1 else mean


def interval(d: Difference | None, metric: str) -> str:
    """`+1.20 ± 0.80 (seeds)`."""
    if d is None:
        return NOTHING
    return f"{number(d.value, metric, True)} ± {number(d.half, metric)} ({d.over})"


def values_of(group: Sequence[RunRecord], kind: str) -> list[float]:
    """The test metric of each finished seed, `ensemble` or `single_model`."""
    found = [r.results if kind == "ensemble" else r.results["single_model"] for r in group if r.results]
    return [result[r.metric] for result, r in zip(found, (r for r in group if r.results), strict=True)]
