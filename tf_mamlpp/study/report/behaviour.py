"""The report's sections on how the runs went: stability, cost, and what was learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure as Drawing

from tf_mamlpp.records.run_record import Groups, RunRecord, metric_of
from tf_mamlpp.study import method_names
from tf_mamlpp.study.report import figures
from tf_mamlpp.study.report.document import Block, Heading, Items, Paragraph, Table
from tf_mamlpp.study.report.formatting import NOTHING, Figures, number
from tf_mamlpp.training import pictures


def stability(groups: Groups, draw: Figures) -> list[Block]:
    """How steady each run was, with its warnings."""
    rows, findings = [], []
    for method, group in groups.items():
        for r in group:
            if not r.rows and not r.failure:
                continue
            norms, clipped = r.series["gradient_norm"], r.series["clipped"]
            tail = [f"{np.median(norms):.3g}", f"{norms.max():.3g}"] if len(norms) else [NOTHING] * 2
            often = f"{100 * (clipped > 0).mean():.1f} %" if len(clipped) else NOTHING
            rates = [v for values in r.rows[-1].get("inner_rates", {}).values() for v in values] if r.rows else []
            lowest = f"{min(rates):.3g} to {max(rates):.3g}".replace("-", "\N{MINUS SIGN}") if rates else NOTHING
            verdict = r.diagnosis.verdict if r.state != "failed" else "failed"
            rows.append([method_names.title_of(method), str(r.seed), verdict, *tail, often, lowest])
            for finding in r.diagnosis.findings:
                if finding.kind == "clipping":  # it has a column
                    continue
                mark = "**warning**" if finding.unstable else "note"
                findings.append(f"{mark}: {method_names.title_of(method)}, seed {r.seed}: {finding.text}.")
            if r.state == "failed" and r.failure:
                findings.append(f"**failed**: {method_names.title_of(method)}, seed {r.seed}: {r.failure['error']}.")
    if not rows:
        return []
    header = ["method", "seed", "verdict", "gradient norm, median", "largest", "updates clipped", "inner rates"]
    return [
        Heading("Stability"),
        Table(header, rows),
        Paragraph(
            "Verdicts: *diverged*, the loss was no longer finite; *unstable*, loss or gradient leapt far beyond what "
            "they were, or half of what had been learned was lost; *still improving*, validation still rose at the "
            "end, so that more updates would help; *settled*; *not learning*, hardly above chance."
        ),
        *([Items(sorted(findings, key=lambda text: not text.startswith("**")))] if findings else []),
        *draw(
            "gradient_norms",
            figures.gradient_norms(groups),
            "Norm of the meta-gradient before clipping, logarithmic: lines are medians of a fortieth of the run, one "
            "style a seed, dots the largest; a dotted vertical line marks a warning.",
        ),
        *draw(
            "validation_against_updates",
            figures.validation_curves(groups, "updates"),
            "Validation against updates: black lines are the method's seeds, one style each (a cross: it diverged "
            "there), grey ones the seeds of MAML++.",
        ),
    ]


def cost(groups: Groups, draw: Figures) -> list[Block]:
    """Seconds, and memory."""
    metric = metric_of(groups)
    levels = _levels(groups)
    rows = []
    for method, group in groups.items():
        if not any(r.rows for r in group):
            continue
        cells = [_mean([r.seconds_per_update(order) for r in group], "{:.3g}") for order in (False, True)]
        for level in levels:
            reached = [s for r in group if (s := r.seconds_to(level)) is not None]
            part = "" if len(reached) == len(group) else f" ({len(reached)} of {len(group)})"
            cells.append(f"{np.mean(reached) / 60:.1f}{part}" if reached else NOTHING)
        cells.append(_mean([r.process.get("peak_memory_mb") for r in group], "{:.0f}"))
        rows.append([method_names.title_of(method), *cells])
    if not rows:
        return []
    shown = [
        f"minutes to {number(level, metric).removesuffix('.00')}{' %' if metric == 'accuracy' else ''}"
        for level in levels
    ]
    header = ["method", "s/update, first order", "s/update, second order", *shown, "peak memory (MB)"]
    return [
        Heading("Cost"),
        Table(header, rows),
        Paragraph(
            "Seconds of an update: the median, without tracing and validation. Time to a validation level: until the "
            "first epoch that has it, all included, mean of the seeds that came so far (how many, if not all). "
            "Memory: the process's peak, test included. Times of a shared machine compare no better than it was quiet."
        ),
        *draw(
            "validation_against_time",
            figures.validation_curves(groups, "time"),
            "Validation against training time, validation included; lines as above.",
        ),
    ]


def _mean(values: Sequence[float | None], form: str) -> str:
    found = [v for v in values if v]
    return form.format(float(np.mean(found))) if found else NOTHING


def _levels(groups: Groups) -> list[float]:
    """Up to three round levels of validation that not all runs have from the start: the highest that half of the
    methods reach, and those around it."""
    series = [v for group in groups.values() for r in group if (v := r.validation()[2])]
    if not series:
        return []
    if metric_of(groups) != "accuracy":
        best = sorted(min(values) for values in series)
        return [float(f"{best[len(best) // 2]:.2g}")]
    grid = [*np.arange(0.25, 0.9, 0.05), *np.arange(0.9, 0.99, 0.01), *np.arange(0.99, 1, 0.002)]
    low, high = min(values[0] for values in series), max(max(values) for values in series)
    middle = float(np.median([max(values) for values in series]))
    between = [round(float(g), 4) for g in grid if low < g <= high]
    below, above = [g for g in between if g <= middle], [g for g in between if g > middle]
    return [*below[-2:], *above[: 3 - len(below[-2:])]]


def learned(groups: Groups, draw: Figures) -> list[Block]:
    """Accuracy after each inner step, learned rates, batch-norm weights, schedules."""
    metric = metric_of(groups)
    blocks = draw(
        "inner_steps",
        figures.inner_step_curves(groups),
        f"Test {metric.replace('_', ' ')} of the ensemble after each inner step, mean over seeds; grey: MAML++.",
    )
    for method in ("maml++", "maml+learned_rates"):
        record = next((r for r in groups.get(method, ()) if r.rows and r.rows[-1].get("inner_rates")), None)
        if record:
            name = method_names.title_of(method)
            title = f"{name}, seed {record.seed}, after update {record.rows[-1]['update']}"
            blocks += draw(
                f"rates_{'full' if method == 'maml++' else 'alone'}",
                pictures.rates_heatmap(record.rows[-1]["inner_rates"], title),
                f"Learned rates of {name}: a row a tensor, a column an inner step. Darker is larger; hatched is "
                "negative.",
            )
    last: list[tuple[str, Callable[[RunRecord], Drawing | None], str]] = [
        (
            "batch_norm_drift",
            figures.drift_curves,
            "How far each inner step's batch-norm weights have drifted from the first step's: MAML++, seed {}.",
        ),
        ("schedules", figures.schedules, "Schedules as they were applied: MAML++, seed {}."),
    ]
    record = next((r for r in groups.get("maml++", ()) if r.rows), None)
    for name, figure, caption in last if record else ():
        assert record
        blocks += draw(name, figure(record), caption.format(record.seed))
    return [Heading("What was learned"), *blocks] if blocks else []
