"""Means and their intervals.  Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

NORMAL_95 = 1.96
"""Standard errors to either side of a mean that 95 % of normal deviations keep within."""


def mean_interval(values: Sequence[float] | np.ndarray, quantile: float = NORMAL_95) -> tuple[float, float]:
    """The mean of a sample and half the width of its interval.

    Formula:
        mean ± quantile · s / √n, with s² = Σ (x - mean)² / (n - 1)

    Args:
        values: `[n]`, one a task, a trial or a seed.
        quantile: standard errors to either side; `NORMAL_95` for a 95 % interval of many values, Student's for few.

    Returns:
        The mean, and half the width; NaN for the width of a single value, which has no spread.

    Example:
        >>> mean_interval([0.5, 0.7, 0.6, 0.6])
        (0.6, 0.0800166649309...)
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return float(sample.mean()), math.nan
    return float(sample.mean()), float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
