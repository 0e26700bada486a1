"""The report's section on cost: seconds and memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_mamlpp.records.run_record import Groups, RunRecord, metric_of
from tf_mamlpp.study.method_names import title_of
from tf_mamlpp.study.report import figures
from tf_mamlpp.study.report.document import Block, Heading, Paragraph, Table
from tf_mamlpp.study.report.formatting import EMPTY_CELL, FigureFolder, format_metric


def cost_section(groups: Groups, folder: FigureFolder) -> list[Block]:
    """Seconds of an update, minutes to a few levels of validation, and memory, a row a method.

    Args:
        groups: the runs of each method.
        folder: where figures are written.

    Returns:
        The section; nothing before the first epoch of any run.

    Example:
        >>> cost_section({"maml": [RunRecord("maml", 0, tmp_path, 100)]}, FigureFolder(tmp_path))
        []
    """
    groups_begun = {method: group for method, group in groups.items() if any(r.rows for r in group)}
    if not groups_begun:
        return []
    metric, levels = metric_of(groups), _levels(groups)
    percent = " %" if metric == "accuracy" else ""
    level_names = [f"minutes to {format_metric(level, metric).removesuffix('.00')}{percent}" for level in levels]
    header = ["method", "s/update, first order", "s/update, second order", *level_names, "peak memory (MB)"]
    return [
        Heading("Cost"),
        Table(header, [[title_of(method), *_cells(group, levels)] for method, group in groups_begun.items()]),
        Paragraph(
            "Seconds of an update: the median, without tracing and validation. Time to a validation level: until the "
            "first epoch that has it, all included, mean of the seeds that came so far (how many, if not all). "
            "Memory: the process's peak, test included. Times of a shared machine compare no better than it was quiet."
        ),
        *folder.save(
            "validation_against_time",
            figures.validation_curves(groups, "time"),
            "Validation against training time, validation included; lines as above.",
        ),
    ]


def _cells(group: Sequence[RunRecord], levels: Sequence[float]) -> list[str]:
    return [
        _mean([r.seconds_per_update(second_order=False) for r in group], "{:.3g}"),
        _mean([r.seconds_per_update(second_order=True) for r in group], "{:.3g}"),
        *(_minutes_to(level, group) for level in levels),
        _mean([r.process.get("peak_memory_mb") for r in group], "{:.0f}"),
    ]


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value]
    return form.format(float(np.mean(known))) if known else EMPTY_CELL


def _minutes_to(level: float, group: Sequence[RunRecord]) -> str:
    """The mean over the seeds that reached a level, and how many they are if not all."""
    reached = [seconds for r in group if (seconds := r.seconds_to(level)) is not None]
    if not reached:
        return EMPTY_CELL
    part = "" if len(reached) == len(group) else f" ({len(reached)} of {len(group)})"
    return f"{np.mean(reached) / 60:.1f}{part}"


def _levels(groups: Groups) -> list[float]:
    """Up to three round levels of validation to time: around the highest that half of the runs reach.

    No run has all of them from its first epoch on.  A regression has one level: the middle run's best error.
    """
    curves = [values for group in groups.values() for r in group if (values := r.validation()[2])]
    if not curves:
        return []
    if metric_of(groups) != "accuracy":
        best = sorted(min(values) for values in curves)
        return [float(f"{best[len(best) // 2]:.2g}")]
    round_levels = [*np.arange(0.25, 0.9, 0.05), *np.arange(0.9, 0.99, 0.01), *np.arange(0.99, 1, 0.002)]
    low, high = min(values[0] for values in curves), max(max(values) for values in curves)
    middle = float(np.median([max(values) for values in curves]))
    between = [round(float(level), 4) for level in round_levels if low < level <= high]
    below, above = [level for level in between if level <= middle], [level for level in between if level > middle]
    return [*below[-2:], *above[: 3 - len(below[-2:])]]
