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

EMPTY_CELL = "–"


class FigureFolder:
    """The folder of a report's figures.

    Args:
        folder: made if it is missing.

    Example:
        >>> figures = FigureFolder(tmp_path)
        >>> figures.save("empty", Drawing(), "Nothing in it.")
        [Figure(folder=..., name='empty', caption='Nothing in it.')]
        >>> sorted(file.name for file in tmp_path.iterdir())
        ['empty.png', 'empty.svg']
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, name: str, drawing: Drawing | None, caption: str) -> list[Block]:
        """Writes a figure as PNG and SVG; gives its block, or none where there is nothing to draw."""
        if drawing is None:
            return []
        plotting.save(drawing, self.folder, name)
        return [Figure(self.folder, name, caption)]


def format_metric(value: float, metric: str, sign: bool = False) -> str:
    """A value of the metric as text, with a true minus sign.

    Args:
        value: an accuracy in 0 to 1 becomes percent; an error stays as it is.
        metric: `accuracy` or a regression's error.
        sign: also writes a plus sign.

    Example:
        >>> format_metric(0.1234, "accuracy", sign=True)
        '+12.34'
        >>> format_metric(0.123456, "mean_squared_error")
        '0.1235'
    """
    plus = "+" if sign else ""
    text = f"{100 * value:{plus}.2f}" if metric == "accuracy" else f"{value:{plus}.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def mean_and_deviation(values: Sequence[float], metric: str) -> str:
    """Mean ± standard deviation of a metric over seeds, or the one value.

    Example:
        >>> mean_and_deviation([0.5, 0.7], "accuracy")
        '60.00 ± 14.14'
    """
    if not values:
        return EMPTY_CELL
    mean = format_metric(float(np.mean(values)), metric)
    if len(values) == 1:
        return mean
    return f"{mean} ± {format_metric(float(np.std(values, ddof=1)), metric)}"


def format_difference(difference: Difference | None, metric: str) -> str:
    """A difference between two methods with its interval.

    Example:
        >>> format_difference(Difference(value=0.012, half=0.008, over="seeds", seeds=3), "accuracy")
        '+1.20 ± 0.80 (seeds)'
    """
    if difference is None:
        return EMPTY_CELL
    value, half = format_metric(difference.value, metric, sign=True), format_metric(difference.half, metric)
    return f"{value} ± {half} ({difference.over})"


def metric_values(records: Sequence[RunRecord], kind: str) -> list[float]:
    """The test metric of each finished run.

    Args:
        records: of a method's runs.
        kind: `ensemble` or `single_model`.

    Example:
        >>> _ = (tmp_path / "results.json").write_text('{"accuracy": 0.9, "single_model": {"accuracy": 0.8}}')
        >>> metric_values([RunRecord("maml", 0, tmp_path, 100)], "single_model")
        [0.8]
    """
    return [(r.results if kind == "ensemble" else r.results["single_model"])[r.metric] for r in records if r.results]
