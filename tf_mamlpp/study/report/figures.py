"""The figures that compare the methods of a study: pure functions from records to matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tf_mamlpp.plotting import STYLE
from tf_mamlpp.records.run_record import Groups, RunRecord, metric_of
from tf_mamlpp.study.comparison import Difference
from tf_mamlpp.study.method_names import title_of
from tf_mamlpp.study.report.panels import REFERENCE, SEED_LINES, axis_label, axis_scale, grid_of_panels, panel_title

_GRADIENT_NORM_PARTS = 40  # parts of a run, each of which is drawn as its median and its maximum


def validation_curves(groups: Groups, against: str = "updates") -> Figure | None:
    """The validation metric of each run, a panel a method, a line a seed; MAML++ in grey in each panel.

    Args:
        groups: the runs of each method.
        against: `updates` or `time`, on the x axis.

    Returns:
        The figure; None before the first epoch of any run.

    Example:
        >>> _ = (tmp_path / "metrics.jsonl").write_text('{"update": 9, "seconds": 5.0, "val_accuracy": 0.5}\\n')
        >>> figure = validation_curves({"maml": [RunRecord("maml", 0, tmp_path, 9)]})
        >>> [float(y) for y in figure.axes[0].lines[0].get_ydata()]
        [50.0]
    """
    groups = {name: group for name, group in groups.items() if any(r.rows for r in group)}
    if not groups:
        return None
    longest = max(r.rows[-1]["seconds"] for group in groups.values() for r in group if r.rows)
    unit, divisor = ("h", 3600) if longest > 2 * 3600 else ("min", 60) if longest > 120 else ("s", 1)
    scale = axis_scale(metric_of(groups))

    def curve(record: RunRecord) -> tuple[Sequence[float], Sequence[float]]:
        updates, seconds, values = record.validation()
        return updates if against == "updates" else [s / divisor for s in seconds], [scale * v for v in values]

    figure, panels = grid_of_panels(len(groups))
    with matplotlib.rc_context(STYLE):
        for axes, (method, group) in zip(panels, groups.items(), strict=True):
            for record in groups.get("maml++", ()) if method != "maml++" else ():
                axes.plot(*curve(record), solid_capstyle="round", **REFERENCE)
            for i, record in enumerate(group):
                x, y = curve(record)
                style = SEED_LINES[i % len(SEED_LINES)]
                axes.plot(x, y, color="black", linewidth=1.2, linestyle=style, solid_capstyle="round")
                if record.state in ("diverged", "failed") and x:
                    axes.plot(x[-1], y[-1], "x", color="black", markersize=8, markeredgewidth=2)
            axes.set_title(panel_title(method))
        figure.supylabel(f"validation {axis_label(metric_of(groups))}", fontsize=9)
        figure.supxlabel("updates" if against == "updates" else f"training time ({unit})", fontsize=9)
    return figure


def inner_step_curves(groups: Groups) -> Figure | None:
    """The test metric after each inner step, mean over seeds: a panel a method; MAML++ in grey in each panel.

    Args:
        groups: the runs of each method.

    Returns:
        The figure; None if no run with two or more inner steps is finished.

    Example:
        >>> _ = (tmp_path / "results.json").write_text('{"accuracy_per_inner_step": [0.2, 0.5, 0.75]}')
        >>> figure = inner_step_curves({"maml": [RunRecord("maml", 0, tmp_path, 9)]})
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [50.0, 75.0]
    """
    metric = metric_of(groups)
    key = f"{metric}_per_inner_step"
    curves = {
        method: axis_scale(metric) * np.mean([r.results[key][1:] for r in group if r.results], axis=0)
        for method, group in groups.items()
        if any(r.results for r in group)
    }
    curves = {method: curve for method, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, panels = grid_of_panels(len(curves))
    with matplotlib.rc_context(STYLE):
        for axes, (method, curve) in zip(panels, curves.items(), strict=True):
            if "maml++" in curves and method != "maml++":
                full = curves["maml++"]
                axes.plot(range(1, len(full) + 1), full, **REFERENCE)
            axes.plot(range(1, len(curve) + 1), curve, "o-", color="black", linewidth=1.2, markersize=3.5)
            axes.set_title(panel_title(method))
            axes.set_xticks(range(1, len(curve) + 1))
        figure.supylabel(f"test {axis_label(metric)}", fontsize=9)
        figure.supxlabel("inner steps taken", fontsize=9)
    return figure


def gradient_norms(groups: Groups) -> Figure | None:
    """The meta-gradient's norm, a panel a method: the median (line) and the largest (dots) of each fortieth of a run.

    Args:
        groups: the runs of each method.

    Returns:
        The figure; None if no run has written an update.

    Example:
        >>> updates = "update,update_loss,gradient_norm,clipped\\n1,0.9,2.5,0\\n2,0.8,0.5,0\\n"
        >>> _ = (tmp_path / "updates.csv").write_text(updates)
        >>> figure = gradient_norms({"maml": [RunRecord("maml", 0, tmp_path, 2)]})
        >>> [float(y) for y in figure.axes[0].lines[0].get_ydata()]
        [2.5, 0.5]
    """
    groups = {name: group for name, group in groups.items() if any(len(r.series["gradient_norm"]) for r in group)}
    if not groups:
        return None
    figure, panels = grid_of_panels(len(groups))
    with matplotlib.rc_context(STYLE):
        for axes, (method, group) in zip(panels, groups.items(), strict=True):
            for i, record in enumerate(group):
                _draw_gradient_norms(axes, record, SEED_LINES[i % len(SEED_LINES)])
            axes.set_title(panel_title(method))
        for axes in panels:
            _make_logarithmic(axes)
        figure.supylabel("norm of the meta-gradient", fontsize=9)
        figure.supxlabel("updates", fontsize=9)
    return figure


def _draw_gradient_norms(axes: Axes, record: RunRecord, style: Any) -> None:
    norms = record.series["gradient_norm"]
    known = np.flatnonzero(~np.isnan(norms))  # not of a lost line, nor of the update that ended the run
    if not len(known):
        return
    parts = np.array_split(known, min(_GRADIENT_NORM_PARTS, len(known)))
    x = [part[-1] + 1 for part in parts]
    axes.plot(x, [np.median(norms[part]) for part in parts], color="black", linewidth=1, linestyle=style)
    axes.plot(x, [norms[part].max() for part in parts], ".", color="0.45", markersize=2.5)
    for finding in record.diagnosis.findings:
        if finding.unstable:
            axes.axvline(finding.update, color="black", linewidth=0.8, linestyle=(0, (1, 2)))


def _make_logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, at least two of them."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def differences(against: Mapping[str, Difference], metric: str = "accuracy") -> Figure | None:
    """Each method minus MAML++ with its 95 % interval: filled dots over seeds, open ones over tasks.

    Args:
        against: the difference of each method to MAML++.
        metric: `accuracy` or a regression's error.

    Returns:
        The figure; None without a difference.

    Example:
        >>> figure = differences({"maml": Difference(-0.05, 0.02, "seeds", 3)})
        >>> figure.axes[0].get_xlabel()
        'test accuracy minus that of MAML++ (percentage points)'
    """
    if not against:
        return None
    scale = axis_scale(metric)
    rows = list(reversed(list(against.items())))  # the first method at the top
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.32 * len(rows) + 1.0), layout="constrained")
        axes = figure.subplots()
        for y, (_, d) in enumerate(rows):
            fill = "black" if d.over == "seeds" else "white"
            axes.errorbar(
                scale * d.value, y, xerr=scale * d.half, fmt="o", color="black", markerfacecolor=fill, capsize=3
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [title_of(method) for method, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        unit = "(percentage points)" if metric == "accuracy" else ""
        axes.set_xlabel(f"test {metric.replace('_', ' ')} minus that of MAML++ {unit}".strip())
    return figure
