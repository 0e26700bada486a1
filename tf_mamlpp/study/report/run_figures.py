"""The figures of a single run: pure functions from its record to matplotlib figures."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_mamlpp.plotting import STYLE
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.report.panels import STEP_MARKERS, grid_of_panels


def _grey(step: int, steps: int) -> str:
    """The grey of an inner step's line: the last step is black."""
    return str(0.6 * (1 - step / max(steps - 1, 1)))


def _evenly_spread(names: Sequence[str], count: int = 4) -> list[str]:
    """At most `count` of the names, with the first and the last."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).astype(int))]


def drift_curves(record: RunRecord) -> Figure | None:
    """How far each inner step's batch-norm weights are from the first step's, against updates.

    Args:
        record: of the run; up to four of its layers are shown.

    Returns:
        The figure; None if the run has no batch-norm weights for each step.

    Example:
        >>> row = '{"update": 10, "seconds": 5.0, "batch_norm_drift": {"norm0/gamma": [0.0, 0.25, 0.5]}}'
        >>> _ = (tmp_path / "metrics.jsonl").write_text(row + "\\n")
        >>> figure = drift_curves(RunRecord("maml++", 0, tmp_path, 10))
        >>> [(line.get_label(), float(line.get_ydata()[0])) for line in figure.axes[0].lines]
        [('inner step 2', 0.25), ('inner step 3', 0.5)]
    """
    rows = [row for row in record.rows if row.get("batch_norm_drift")]
    if not rows or len(next(iter(rows[0]["batch_norm_drift"].values()))) < 2:
        return None
    paths = list(rows[0]["batch_norm_drift"])
    rows = [row for row in rows if row["batch_norm_drift"].keys() >= set(paths)]
    kinds = list(dict.fromkeys(path.rpartition("/")[2] for path in paths))  # gamma, beta
    layers = _evenly_spread(list(dict.fromkeys(path.rpartition("/")[0] for path in paths)))
    shown = [f"{layer}/{kind}" for kind in kinds for layer in layers if f"{layer}/{kind}" in paths]
    figure, panels = grid_of_panels(len(shown))
    updates = [row["update"] for row in rows]
    with matplotlib.rc_context(STYLE):
        for axes, path in zip(panels, shown, strict=True):
            drift = np.array([row["batch_norm_drift"][path] for row in rows], np.float64)
            for step in range(1, drift.shape[1]):
                axes.plot(
                    updates,
                    drift[:, step],
                    color=_grey(step, drift.shape[1]),
                    marker=STEP_MARKERS[(step - 1) % len(STEP_MARKERS)],
                    markevery=(step % 4, max(len(rows) // 5, 1)),
                    markersize=3.5,
                    linewidth=1,
                    label=f"inner step {step + 1}",
                )
            axes.set_title(" ".join(path.rsplit("/", 1)))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        figure.supylabel("distance to inner step 1\n(root mean square over channels)", fontsize=9)
        figure.supxlabel("updates", fontsize=9)
    return figure


def schedules(record: RunRecord) -> Figure | None:
    """The weights of the inner steps' losses and the outer learning rate of each epoch, with the change of order.

    Args:
        record: of the run.

    Returns:
        The figure; None before the first epoch.

    Example:
        >>> import json
        >>> rows = [
        ...     {"update": 5, "loss_weights": [0.5, 0.5], "second_order": False},
        ...     {"update": 10, "loss_weights": [0.0, 1.0], "second_order": True},
        ... ]
        >>> lines = [json.dumps({**row, "seconds": 5.0, "learning_rate": 0.001}) for row in rows]
        >>> _ = (tmp_path / "metrics.jsonl").write_text("\\n".join(lines))
        >>> weights, _ = schedules(RunRecord("maml++", 0, tmp_path, 10)).axes
        >>> [float(y) for y in weights.lines[1].get_ydata()]
        [0.5, 1.0, 1.0]
    """
    rows = [row for row in record.rows if {"loss_weights", "learning_rate", "second_order"} <= row.keys()]
    if not rows:
        return None
    # A row is written at the end of its epoch, but its values hold since the end of the epoch before.
    edges = [0, *(row["update"] for row in rows)]
    rates = [row["learning_rate"] for row in rows]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_loss_weights(left, edges, np.array([row["loss_weights"] for row in rows]))
        figure.legend(*left.get_legend_handles_labels(), title="inner step", loc="outside left center")
        right.plot(edges, [*rates, rates[-1]], drawstyle="steps-post", color="black", linewidth=1.2)
        right.set_ylabel("outer learning rate")
        right.set_ylim(0, 1.15 * max(rates))
        change = next((edge for edge, row in zip(edges, rows, strict=False) if row["second_order"]), None)
        if change:
            for axes in (left, right):
                axes.axvline(change, color="0.5", linewidth=0.9, linestyle=":")
            _annotate_change(right, change, 1.12 * max(rates), late=change > edges[-1] / 2)
        for axes in (left, right):
            axes.set_xlabel("updates")
            axes.grid(color="0.92", linewidth=0.6)
    return figure


def _draw_loss_weights(axes: Axes, edges: Sequence[int], weights: np.ndarray) -> None:
    """The weights, `[epochs, steps]`, as steps between the updates at which epochs end."""
    epochs, steps = weights.shape
    for step in range(steps):
        axes.plot(
            edges,
            [*weights[:, step], weights[-1, step]],
            drawstyle="steps-post",
            color=_grey(step, steps),
            marker=STEP_MARKERS[step % len(STEP_MARKERS)],
            markevery=(step % 4, max(epochs // 4, 1)),
            markersize=4,
            linewidth=1,
            label=f"{step + 1}",
        )
    axes.set_ylim(-0.03, 1.08)
    axes.set_ylabel("weight of the query loss")


def _annotate_change(axes: Axes, update: int, height: float, late: bool) -> None:
    """Names the line at which second order begins, on its left if it is late in the run."""
    axes.annotate(
        "second order from here",
        (update, height),
        xytext=(-4 if late else 4, -3),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontsize=8,
    )
