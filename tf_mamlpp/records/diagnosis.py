"""Tells a run that goes unstable from one that is slow: pure functions of what it recorded.  Imports no TensorFlow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOW = 50  # updates whose median is the level that a spike leaves


Rows = Sequence[Mapping[str, Any]]


Series = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Finding:
    """Something that a run's record shows.

    Attributes:
        kind: `diverged`, `collapse`, `loss spike`, `gradient spike`, `clipping`, `overshoot` or `negative rates`.
        update: where it began.
        text: a sentence, with the likely cause.
        unstable: whether it makes the run unstable; the others are to be known.
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
    """

    verdict: str
    findings: tuple[Finding, ...]


def running_median(values: Series, window: int = WINDOW) -> np.ndarray:
    """The median of the `window` values before each; NaN for the first `window`."""
    series = np.asarray(values, np.float64)
    out = np.full(series.shape, np.nan)
    if len(series) > window:
        before = np.lib.stride_tricks.sliding_window_view(series[:-1], window)
        for i in range(0, len(before), 4096):  # a median copies its windows: all of a long run's at once are large
            part = before[i : i + 4096]
            out[window + i : window + i + len(part)] = np.median(part, axis=-1)
    return out


def spikes(values: Series, factor: float, window: int = WINDOW) -> list[int]:
    """Where a series leaps above everything that it ever was: one index for each burst.

    A value is a spike if it is more than `factor` times the median of the `window` values before it, and more than
    twice the largest of the first `window`: a small loss varies by large factors from one meta-batch to the next, and
    is none.  Spikes less than `window` apart are one burst.
    """
    series = np.asarray(values, np.float64)
    if len(series) <= window:
        return []
    # A value that is not a number is no record; one that is infinite is a spike.
    high = series > np.maximum(factor * running_median(series, window), 2 * np.fmax.reduce(series[:window]))
    indices = np.flatnonzero(high)
    return [int(i) for n, i in enumerate(indices) if n == 0 or i - indices[n - 1] >= window]


def progress(values: Series, chance: float, minimise: bool = False) -> np.ndarray:
    """How much of the way from chance to the best value so far each value keeps: 1 at the best, 0 at chance."""
    sign = -1.0 if minimise else 1.0
    gained = sign * (np.asarray(values, np.float64) - chance)
    best = np.maximum.accumulate(np.maximum(gained, 0))
    return np.where(best > 0, gained / np.where(best > 0, best, 1), 1.0)


def improving(values: Series, minimise: bool = False) -> bool:
    """Whether a series still rises (falls): the slope of its second half is more than twice its standard error.

    Of fewer than eight values: whether the last is the best.
    """
    series = np.asarray(values, np.float64) * (-1 if minimise else 1)
    half = series[len(series) // 2 :]
    if len(half) < 4:
        return len(series) > 1 and int(np.argmax(series)) == len(series) - 1
    x = np.arange(len(half)) - (len(half) - 1) / 2
    slope = (x * half).sum() / (x * x).sum()
    residuals = half - half.mean() - slope * x
    error = math.sqrt((residuals**2).sum() / (len(half) - 2) / (x * x).sum())
    return bool(slope > 2 * error)


def leap(norms: Sequence[float]) -> str:
    """How the last gradient norms of a run that diverged rose above those before, for its error message; or nothing."""
    finite = [n for n in norms if math.isfinite(n)]
    if len(finite) < 4 or max(finite[-3:]) <= 10 * float(np.median(finite)):
        return ""
    return f"; the meta-gradient's norm had leapt from about {np.median(finite):.3g} to {max(finite[-3:]):.3g}"


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
    """
    minimise = metric != "accuracy"
    rows = _whole(rows, f"val_{metric}")
    series = [row[f"val_{metric}"] for row in rows if f"val_{metric}" in row]
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


def _whole(rows: Rows, metric: str) -> list[Mapping[str, Any]]:
    """The rows with the metric and with every key that two have: a line that was damaged may be sound JSON still."""
    count = Counter(key for row in rows for key in row)
    usual = {key for key, found in count.items() if found > 1 or key == metric}
    return [row for row in rows if usual <= row.keys()]


def _verdict(rows: Rows, series: Sequence[float], findings: Sequence[Finding], minimise: bool) -> str:
    if any(f.kind == "diverged" for f in findings):
        return "diverged"
    if any(f.unstable for f in findings):
        return "unstable"
    if not series:
        return "no epoch yet"
    if improving(series, minimise):
        return "still improving"
    chance = rows[0].get("val_step_0")
    # Halfway from chance to right (or to no error) is far above what chance gives; a twentieth is not.
    if chance is not None:
        gained = (chance - min(series)) / chance if minimise else (max(series) - chance) / (1 - chance)
        if gained < 0.05:
            return "not learning"
    return "settled"


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
        usual = running_median(losses)[i]
        text = f"the loss leapt from about {usual:.3g} to {losses[i]:.3g} at update {i + 1}; {_cause(i + 1, rows)}"
        found.append(Finding("loss spike", i + 1, text))
    clipped = np.asarray(updates.get("clipped", ()))
    for i in spikes(norms, 10.0):
        usual, held = running_median(norms)[i], i < len(clipped) and clipped[i] > 0
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
    chances = [row["val_step_0"] for row in rows if "val_step_0" in row]
    if not chances:
        return []
    chance = max(chances) if minimise else float(np.median(chances))
    kept = progress(series, chance, minimise)
    # What is hardly above chance cannot collapse.
    learned = np.maximum.accumulate((chance - np.asarray(series)) / chance if minimise else np.asarray(series) - chance)
    found: list[Finding] = []
    fallen = False
    for i, part in enumerate(kept):
        if part < 0.5 and not fallen and learned[i] > 0.1:
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
