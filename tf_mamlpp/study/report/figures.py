"""The figures of a study, readable in black and white: pure functions from records to matplotlib figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.patches
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tf_mamlpp.plotting import STYLE
from tf_mamlpp.records.run_record import Groups, RunRecord, metric_of
from tf_mamlpp.study.comparison import Difference
from tf_mamlpp.study.method_names import title_of

_LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))  # of seeds


_MARKERS = "osD^vPX<>*"


_COLUMNS = 4


def _wrapped(method: str, width: int = 31) -> str:
    return textwrap.fill(title_of(method), width)


def _scale(metric: str) -> float:
    return 100.0 if metric == "accuracy" else 1.0


def _named(metric: str) -> str:
    return metric.replace("_", " ") + (" (%)" if metric == "accuracy" else "")


def _panels(count: int, height: float = 1.75, sharey: bool = True) -> tuple[Figure, list[Axes]]:
    """A grid of small axes that share their ranges; only the outer ones have numbers."""
    with matplotlib.rc_context(STYLE):
        columns = min(_COLUMNS, count)
        lines = -(-count // columns)
        figure = Figure(figsize=(2.6 * max(columns, 2), height * lines + 0.55), layout="constrained")
        grid = figure.subplots(lines, columns, sharex=True, sharey=sharey, squeeze=False).ravel()
        for axes in grid[count:]:
            axes.remove()
        for i, axes in enumerate(grid[:count]):
            # The last of each column has numbers, also above a gap.
            axes.tick_params(labelbottom=i + columns >= count)
            axes.grid(color="0.9", linewidth=0.6)
        return figure, list(grid[:count])


def validation_curves(groups: Groups, against: str = "updates") -> Figure | None:
    """The validation metric against `updates` or `time`: a panel a method, a line a seed; MAML++ in grey in each."""
    groups = {name: group for name, group in groups.items() if any(r.rows for r in group)}
    if not groups:
        return None
    metric = metric_of(groups)
    longest = max(r.rows[-1]["seconds"] for group in groups.values() for r in group if r.rows)
    unit, divisor = ("h", 3600) if longest > 2 * 3600 else ("min", 60) if longest > 120 else ("s", 1)
    figure, panels = _panels(len(groups))
    with matplotlib.rc_context(STYLE):
        for axes, (method, group) in zip(panels, groups.items(), strict=True):
            drawn: list[tuple[RunRecord, str, float, Any]]
            drawn = [(r, "0.72", 2.6, "-") for r in groups.get("maml++", ()) if method != "maml++"]
            drawn += [(r, "black", 1.2, _LINES[i % len(_LINES)]) for i, r in enumerate(group)]
            for record, colour, width, style in drawn:
                updates, seconds, values = record.validation()
                x = updates if against == "updates" else [s / divisor for s in seconds]
                y = [_scale(metric) * v for v in values]
                axes.plot(x, y, color=colour, linewidth=width, linestyle=style, solid_capstyle="round")
                if record.state in ("diverged", "failed") and x and colour == "black":
                    axes.plot(x[-1], y[-1], "x", color="black", markersize=8, markeredgewidth=2)
            axes.set_title(_wrapped(method))
        figure.supylabel(f"validation {_named(metric)}", fontsize=9)
        figure.supxlabel("updates" if against == "updates" else f"training time ({unit})", fontsize=9)
    return figure


def inner_step_curves(groups: Groups) -> Figure | None:
    """The test metric after each inner step, mean over seeds: a panel a method; MAML++ in grey in each."""
    metric = metric_of(groups)
    key = f"{metric}_per_inner_step"
    curves = {
        method: _scale(metric) * np.mean([r.results[key][1:] for r in group if r.results], axis=0)
        for method, group in groups.items()
        if any(r.results for r in group)
    }
    curves = {method: curve for method, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, panels = _panels(len(curves))
    with matplotlib.rc_context(STYLE):
        for axes, (method, curve) in zip(panels, curves.items(), strict=True):
            if "maml++" in curves and method != "maml++":
                full = curves["maml++"]
                axes.plot(range(1, len(full) + 1), full, color="0.72", linewidth=2.6)
            axes.plot(range(1, len(curve) + 1), curve, "o-", color="black", linewidth=1.2, markersize=3.5)
            axes.set_title(_wrapped(method))
            axes.set_xticks(range(1, len(curve) + 1))
        figure.supylabel(f"test {_named(metric)}", fontsize=9)
        figure.supxlabel("inner steps taken", fontsize=9)
    return figure


def gradient_norms(groups: Groups) -> Figure | None:
    """The meta-gradient's norm: the median (line) and the largest (dots) of each fortieth of the updates."""
    groups = {name: group for name, group in groups.items() if any(len(r.series["gradient_norm"]) for r in group)}
    if not groups:
        return None
    figure, panels = _panels(len(groups))
    with matplotlib.rc_context(STYLE):
        for axes, (method, group) in zip(panels, groups.items(), strict=True):
            for i, record in enumerate(group):
                norms = record.series["gradient_norm"]
                if not len(norms):
                    continue
                parts = np.array_split(norms, min(40, len(norms)))
                x = np.cumsum([len(part) for part in parts])
                axes.plot(x, [np.median(p) for p in parts], color="black", linewidth=1, linestyle=_LINES[i % 5])
                axes.plot(x, [p.max() for p in parts], ".", color="0.45", markersize=2.5)
                for finding in record.diagnosis.findings:
                    if finding.unstable:
                        axes.axvline(finding.update, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
            axes.set_title(_wrapped(method))
        _logarithmic(panels)
        figure.supylabel("norm of the meta-gradient", fontsize=9)
        figure.supxlabel("updates", fontsize=9)
    return figure


def _logarithmic(panels: Sequence[Axes]) -> None:
    """A logarithmic y axis with plain numbers, at least two of them."""
    for axes in panels:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def differences(against: Mapping[str, Difference], metric: str = "accuracy") -> Figure | None:
    """Each method minus MAML++ with its 95 % interval: filled over seeds, open over tasks."""
    if not against:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.32 * len(against) + 1.0), layout="constrained")
        axes = figure.subplots()
        for y, (_, d) in enumerate(reversed(list(against.items()))):
            scale = _scale(metric)
            fill = "black" if d.over == "seeds" else "white"
            axes.errorbar(
                scale * d.value, y, xerr=scale * d.half, fmt="o", color="black", markerfacecolor=fill, capsize=3
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(against)), [title_of(m) for m in reversed(list(against))])
        axes.set_ylim(-0.6, len(against) - 0.4)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        unit = "(percentage points)" if metric == "accuracy" else ""
        axes.set_xlabel(f"test {metric.replace('_', ' ')} minus that of MAML++ {unit}".strip())
    return figure


def _chosen(names: Sequence[str], count: int = 4) -> list[str]:
    """At most `count` of the names, evenly spread, with the first and the last."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).astype(int))]


def drift_curves(record: RunRecord) -> Figure | None:
    """How far each inner step's batch-norm weights are from the first step's, against updates."""
    rows = [row for row in record.rows if row.get("batch_norm_drift")]
    if not rows or len(next(iter(rows[0]["batch_norm_drift"].values()))) < 2:
        return None
    paths = list(rows[0]["batch_norm_drift"])
    kinds = list(dict.fromkeys(path.rpartition("/")[2] for path in paths))  # gamma, beta
    layers = _chosen(list(dict.fromkeys(path.rpartition("/")[0] for path in paths)))
    figure, panels = _panels(len(kinds) * len(layers))
    with matplotlib.rc_context(STYLE):
        for axes, (kind, layer) in zip(panels, [(k, n) for k in kinds for n in layers], strict=False):
            series = np.array([row["batch_norm_drift"].get(f"{layer}/{kind}") for row in rows], np.float64)
            for k in range(1, series.shape[1]):
                axes.plot(
                    [row["update"] for row in rows],
                    series[:, k],
                    color=str(0.6 * (1 - k / (series.shape[1] - 1))),
                    marker=_MARKERS[(k - 1) % len(_MARKERS)],
                    markevery=(k % 4, max(len(rows) // 5, 1)),
                    markersize=3.5,
                    linewidth=1,
                    label=f"inner step {k + 1}",
                )
            axes.set_title(f"{layer} {kind}")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        figure.supylabel("distance to inner step 1\n(root mean square over channels)", fontsize=9)
        figure.supxlabel("updates", fontsize=9)
    return figure


def schedules(record: RunRecord) -> Figure | None:
    """Loss weights of the inner steps, and the outer rate, of each epoch, with the change of derivative order."""
    rows = [row for row in record.rows if "loss_weights" in row]
    if not rows:
        return None
    # A row is written at its epoch's end; its values hold from the epoch before it on.
    edges = [0, *(row["update"] for row in rows)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        weights = np.array([row["loss_weights"] for row in rows])
        for k in range(weights.shape[1]):
            y = [*weights[:, k], weights[-1, k]]
            left.plot(
                edges,
                y,
                drawstyle="steps-post",
                color=str(0.6 * (1 - k / max(weights.shape[1] - 1, 1))),
                marker=_MARKERS[k % len(_MARKERS)],
                markevery=(k % 4, max(len(rows) // 4, 1)),
                markersize=4,
                linewidth=1,
                label=f"{k + 1}",
            )
        figure.legend(*left.get_legend_handles_labels(), title="inner step", loc="outside left center")
        left.set_ylim(-0.03, 1.08)
        left.set_ylabel("weight of the query loss")
        rates = [row["learning_rate"] for row in rows]
        right.plot(edges, [*rates, rates[-1]], drawstyle="steps-post", color="black", linewidth=1.2)
        right.set_ylabel("outer learning rate")
        right.set_ylim(0, 1.15 * max(rates))
        change = next((e for e, row in zip(edges, rows, strict=False) if row["second_order"]), None)
        if change:
            for axes in (left, right):
                axes.axvline(change, color="0.5", linewidth=0.9, linestyle=":")
            late = change > edges[-1] / 2
            right.annotate(
                "second order from here",
                (change, 1.12 * max(rates)),
                xytext=(-4 if late else 4, -3),
                textcoords="offset points",
                ha="right" if late else "left",
                va="top",
                fontsize=8,
            )
        for axes in (left, right):
            axes.set_xlabel("updates")
            axes.grid(color="0.92", linewidth=0.6)
    return figure
