"""What the figures of a study share: small axes in a grid, line styles, and names on axes.

All figures are readable in black and white.
"""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_mamlpp.plotting import STYLE
from tf_mamlpp.study.method_names import title_of

SEED_LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""Line styles, one a seed."""

STEP_MARKERS = "osD^vPX<>*"
"""Markers, one an inner step."""

REFERENCE: dict[str, Any] = {"color": "0.72", "linewidth": 2.6}
"""The style of MAML++'s lines in the panels of other methods."""

_COLUMNS = 4


def grid_of_panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of small axes that share their ranges; only the outer ones have numbers.

    Args:
        count: how many axes.

    Example:
        >>> figure, panels = grid_of_panels(6)
        >>> len(figure.axes), [panel.get_subplotspec().colspan.start for panel in panels]
        (6, [0, 1, 2, 3, 0, 1])
    """
    with matplotlib.rc_context(STYLE):
        columns = min(_COLUMNS, count)
        lines = -(-count // columns)
        figure = Figure(figsize=(2.6 * max(columns, 2), 1.75 * lines + 0.55), layout="constrained")
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in grid[count:]:
            axes.remove()
        for i, axes in enumerate(grid[:count]):
            axes.tick_params(labelbottom=i + columns >= count)  # the last panel of each column
            axes.grid(color="0.9", linewidth=0.6)
        return figure, list(grid[:count])


def panel_title(method: str) -> str:
    """A method in words, in lines that fit above a panel.

    Example:
        >>> panel_title("maml+per_step_statistics+per_step_weights")
        'MAML + per-step statistics +\\nper-step weights'
    """
    return textwrap.fill(title_of(method), width=31)


def axis_scale(metric: str) -> float:
    """What values of a metric are multiplied by on an axis: 100 for an accuracy, which is shown in percent.

    Example:
        >>> axis_scale("accuracy")
        100.0
    """
    return 100.0 if metric == "accuracy" else 1.0


def axis_label(metric: str) -> str:
    """A metric in words, with its unit.

    Example:
        >>> axis_label("accuracy"), axis_label("mean_squared_error")
        ('accuracy (%)', 'mean squared error')
    """
    return metric.replace("_", " ") + (" (%)" if metric == "accuracy" else "")
