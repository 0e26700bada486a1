"""Tells a run that goes unstable from one that is slow: pure functions of what it recorded.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tf_mamlpp.records.run_files import whole_rows
from tf_mamlpp.records.series import WINDOW, Series, improving, progress, spikes

Rows = Sequence[dict[str, Any]]
"""Of a `metrics.jsonl`."""


@dataclass(frozen=True)
class Finding:
    """Something that a run's record shows.

    Attributes:
        kind: `diverged`, `collapse`, `loss spike`, `gradient spike`, `clipping`, `overshoot` or `negative rates`.
        update: where it began.
        text: a sentence, with the likely cause.
        unstable: whether it makes the run unstable; others are notes.

    Example:
        >>> Finding("collapse", 1200, "validation accuracy fell from 0.91 to 0.35").unstable
        True
    """

    kind: str
    update: int
    text: str
    unstable: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """What became of a run.

    Attributes:
        verdict: `diverged`, `unstable`, `not learning`, `still improving` (slow, if its accuracy is low) or `settled`.
        findings: in the order of their updates.

    Example:
        >>> Diagnosis("settled", ()).verdict
        'settled'
    """

    verdict: str
    findings: tuple[Finding, ...]


def diagnose(
    rows: Rows,
    updates: Mapping[str, np.ndarray] | None = None,
    *,
    metric: str = "accuracy",
    failure: str | None = None,
) -> Diagnosis:
    """What a run's record shows, so far.

    Args:
        rows: of its `metrics.jsonl`.
        updates: of its `updates.csv`, see `read_updates`.
        metric: the validation metric; an error (`..._error`) is better when smaller.
        failure: the message of the error that ended it because its numbers were not finite.

    Example:
        >>> accuracies = enumerate([0.5, 0.7, 0.9], 1)
        >>> rows = [{"update": k, "val_accuracy": a, "val_step_0": 0.2, "val_step_1": a} for k, a in accuracies]
        >>> diagnose(rows).verdict
        'still improving'
    """
    minimise = metric != "accuracy"
    rows = whole_rows(rows, f"val_{metric}")
    series = [row[f"val_{metric}"] for row in rows]
    findings = [
        *_series_findings(rows, updates or {}),
        *_collapse(rows, series, metric, minimise),
        *_overshoot(rows, minimise),
        *_negative_rates(rows),
    ]
    if failure:
        last = len(updates["update"]) if updates else 0
        findings.append(Finding("diverged", last or (rows[-1]["update"] if rows else 0), failure))
    findings.sort(key=lambda f: f.update)
    return Diagnosis(_verdict(rows, series, findings, minimise), tuple(findings))


def _verdict(rows: Rows, series: Sequence[float], findings: Sequence[Finding], minimise: bool) -> str:
    if any(f.kind == "diverged" for f in findings):
        return "diverged"
    if any(f.unstable for f in findings):
        return "unstable"
    if not series:
        return "no epoch yet"
    if improving(series, minimise):
        return "still improving"
    # Halfway from chance to right (or to no error) is far above what chance gives; a twentieth is not.
    for chance in _chances(rows[:1]):
        gained, all_there_is = (chance - min(series), chance) if minimise else (max(series) - chance, 1 - chance)
        if gained < 0.05 * all_there_is:
            return "not learning"
    return "settled"


def _chances(rows: Rows) -> list[float]:
    """The metric before the first inner step in each epoch; a learner without inner steps has none."""
    return [row["val_step_0"] for row in rows if {"val_step_0", "val_step_1"} <= row.keys()]


def _cause(update: int, rows: Rows) -> str:
    """What changed just before `update`, or what usually makes meta-gradients explode."""
    for before, after in zip(rows, rows[1:], strict=False):
        near = before["update"] < update <= before["update"] + WINDOW
        if near and after.get("second_order") and not before.get("second_order"):
            return f"second-order gradients began at update {before['update'] + 1}"
        if near and max(before.get("loss_weights", [1])) < 1 and max(after.get("loss_weights", [0])) == 1:
            return f"the multi-step loss ended at update {before['update']}"
    row = next((row for row in rows if row["update"] >= update), rows[-1] if rows else {})
    largest = _largest_rate(row)
    if largest and largest[2] > 3 * (_largest_rate(rows[0]) or largest)[2] and largest[2] > 0.3:
        return f"the learned rate of {largest[0]} at inner step {largest[1] + 1} has grown to {largest[2]:.2f}"
    if row.get("second_order"):
        return (
            "second-order meta-gradients grow with every inner step: clip them (learner.gradient_clip), or lower "
            "learner.inner_rate or training.learning_rate"
        )
    return "too large a step: lower training.learning_rate or learner.inner_rate"


def _largest_rate(row: Mapping[str, Any]) -> tuple[str, int, float] | None:
    table = [(path, k, abs(rate)) for path, rates in row.get("inner_rates", {}).items() for k, rate in enumerate(rates)]
    return max(table, key=lambda entry: entry[2], default=None)


def _series_findings(rows: Rows, updates: Mapping[str, np.ndarray]) -> list[Finding]:
    found = []
    losses, norms = (np.asarray(updates.get(name, ())) for name in ("update_loss", "gradient_norm"))
    for i in spikes(losses, 5.0):
        usual = np.median(losses[i - WINDOW : i])
        text = f"the loss leapt from about {usual:.3g} to {losses[i]:.3g} at update {i + 1}; {_cause(i + 1, rows)}"
        found.append(Finding("loss spike", i + 1, text))
    clipped = np.asarray(updates.get("clipped", ()))
    for i in spikes(norms, 10.0):
        usual, held = np.median(norms[i - WINDOW : i]), i < len(clipped) and clipped[i] > 0
        text = f"the meta-gradient's norm leapt from about {usual:.3g} to {norms[i]:.3g} at update {i + 1}; "
        text += "the clip held it" if held else _cause(i + 1, rows)
        found.append(Finding("gradient spike", i + 1, text, unstable=not held))
    often = clipped > 0
    if len(clipped) > WINDOW and often.mean() > 0.1:
        text = (
            f"{100 * often.mean():.0f} % of the updates were clipped ({100 * clipped[often].mean():.1f} % of their "
            f"entries), the first at update {int(np.argmax(often)) + 1}: the clip is a part of the step size here"
        )
        found.append(Finding("clipping", int(np.argmax(often)) + 1, text, unstable=False))
    return found


def _collapse(rows: Rows, series: Series, metric: str, minimise: bool) -> list[Finding]:
    chances = _chances(rows)
    if not chances:
        return []
    chance = max(chances) if minimise else float(np.median(chances))
    kept = progress(series, chance, minimise)
    learned = np.maximum.accumulate((chance - np.asarray(series)) if minimise else np.asarray(series) - chance)
    enough = 0.1 * (chance if minimise else 1)  # what is hardly above chance cannot collapse
    found: list[Finding] = []
    fallen = False
    for i, part in enumerate(kept):
        if part < 0.5 and not fallen and learned[i] > enough:
            best = (min if minimise else max)(series[: i + 1])
            later = [row["update"] for row, k in zip(rows[i:], kept[i:], strict=True) if k > 0.9]
            after = f"it was back by update {later[0]}" if later else "it has not come back"
            text = (
                f"validation {metric} fell from {best:.3f} to {series[i]:.3f} by update {rows[i]['update']}, and "
                f"{after}; {_cause(rows[i]['update'], rows)}"
            )
            found.append(Finding("collapse", rows[i]["update"], text))
        fallen = part < 0.5 or (fallen and part <= 0.9)
    return found


def _overshoot(rows: Rows, minimise: bool) -> list[Finding]:
    """Of the last three epochs' mean: single curves have bends."""
    last, sign = rows[-3:], -1 if minimise else 1
    if len(last) < 3:
        return []
    steps = [k for k in range(len(rows[-1])) if f"val_step_{k}" in rows[-1]]
    curve = sign * np.array([np.mean([row[f"val_step_{k}"] for row in last]) for k in steps])
    if len(curve) < 3 or curve.max() - curve[-1] <= 0.05 * (curve.max() - curve[0]):
        return []
    best = int(np.argmax(curve))
    if best == 0:
        return []
    text = (
        f"inner step {best} is the best and the {steps[-1] - best} after it lose {curve[best] - curve[-1]:.3f} (mean "
        f"of the epochs up to update {last[-1]['update']}): the inner rates are too large for so many steps"
    )
    return [Finding("overshoot", last[-1]["update"], text, unstable=False)]


def _negative_rates(rows: Rows) -> list[Finding]:
    def negative(row: Mapping[str, Any]) -> list[tuple[str, int]]:
        table = row.get("inner_rates", {}).items()
        return [(path, k) for path, rates in table for k, rate in enumerate(rates) if rate < 0]

    first = next((row for row in rows if negative(row)), None)
    if first is None:
        return []
    path, k = negative(first)[0]
    total = sum(map(len, rows[-1].get("inner_rates", {}).values()))
    text = (
        f"a learned rate turned negative by update {first['update']} ({path} at inner step {k + 1}): there the inner "
        f"loop climbs, as learned rates may; {len(negative(rows[-1]))} of {total} are negative after update "
        f"{rows[-1]['update']}"
    )
    return [Finding("negative rates", first["update"], text, unstable=False)]
