"""What a series of numbers does: leaps, progress, whether it still rises.  Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

WINDOW = 50
"""Updates whose median is the level that a spike leaves."""

Series = Sequence[float] | np.ndarray
"""A number for each update, or each epoch."""


def running_median(values: Series, window: int = WINDOW) -> np.ndarray:
    """The median of the values before each.

    Args:
        values: `[n]`.
        window: how many before each; the first `window` results are NaN.

    Example:
        >>> running_median([1.0, 5.0, 2.0, 9.0], window=3)
        array([nan, nan, nan,  2.])
    """
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

    Example:
        >>> spikes([1.0] * 60 + [40.0, 50.0] + [1.0] * 10, factor=5.0)
        [60]
    """
    series = np.asarray(values, np.float64)
    if len(series) <= window:
        return []
    # A value that is not a number is no record; one that is infinite is a spike.
    high = series > np.maximum(factor * running_median(series, window), 2 * np.fmax.reduce(series[:window]))
    indices = np.flatnonzero(high)
    return [int(i) for n, i in enumerate(indices) if n == 0 or i - indices[n - 1] >= window]


def progress(values: Series, chance: float, minimise: bool = False) -> np.ndarray:
    """How much of the way from chance to the best value so far each value keeps: 1 at the best, 0 at chance.

    Args:
        values: `[n]`.
        chance: the value of having learned nothing.
        minimise: whether smaller is better.

    Example:
        >>> progress([0.25, 0.75, 0.5], chance=0.25)
        array([1. , 1. , 0.5])
    """
    sign = -1.0 if minimise else 1.0
    gained = sign * (np.asarray(values, np.float64) - chance)
    best = np.maximum.accumulate(np.maximum(gained, 0))
    return np.where(best > 0, gained / np.where(best > 0, best, 1), 1.0)


def improving(values: Series, minimise: bool = False) -> bool:
    """Whether a series still rises (falls): the slope of its second half is more than twice its standard error.

    Of fewer than eight values: whether the last is the best.

    Example:
        >>> improving([0.1, 0.2, 0.3]), improving([0.3, 0.2, 0.1])
        (True, False)
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
    """How the last gradient norms of a run that diverged rose above those before, for its error message; or nothing.

    Args:
        norms: of the last updates.

    Example:
        >>> leap([1.0, 1.1, 0.9, 1.0, 1.0, 80.0])
        "; the meta-gradient's norm had leapt from about 1 to 80"
    """
    finite = [n for n in norms if math.isfinite(n)]
    if len(finite) < 4 or max(finite[-3:]) <= 10 * float(np.median(finite)):
        return ""
    return f"; the meta-gradient's norm had leapt from about {np.median(finite):.3g} to {max(finite[-3:]):.3g}"
