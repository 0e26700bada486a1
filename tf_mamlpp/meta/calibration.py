"""How far probabilities can be believed: a temperature, and the calibration error.  Imports no TensorFlow."""

from __future__ import annotations

import numpy as np

BINS = 15
"""Of equal width, for the calibration error and the reliability plot."""

COLDEST, HOTTEST = 0.05, 100.0
"""The range of temperatures: where every answer is right, ever lower ones would fit ever better."""


def log_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The logarithm of the softmax, in float64.

    Args:
        logits: `[N, way]`.
        temperature: that logits are divided by.

    Example:
        >>> np.exp(log_probabilities(np.array([[0.0, 2 * np.log(3)]]), temperature=2.0)).round(3)
        array([[0.25, 0.75]])
    """
    scaled = np.asarray(logits, np.float64) / temperature
    shifted = scaled - scaled.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the cross-entropy is least.

    Formula:
        T = argmin -mean log softmax(z / T)[y], by bisection: the cross-entropy is convex in 1/T, and its derivative
        there is the mean of Σ_c p_c z_c - z_y.

    Args:
        logits: `[N, way]`.
        labels: `[N]` integers.

    Returns:
        A number from `COLDEST` to `HOTTEST`.

    Example:
        >>> logits = np.repeat([[2.0, 0.0]], 4, 0)
        >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 4)  # 3 of 4 are right: 2 / log(3)
        1.8205

    References:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2.
    """
    logits = np.asarray(logits, np.float64)
    of_truth = np.take_along_axis(logits, np.asarray(labels)[:, np.newaxis], -1)[:, 0]

    def slope(inverse: float) -> float:
        probabilities = np.exp(log_probabilities(logits, 1 / inverse))
        return float(np.mean((probabilities * logits).sum(-1) - of_truth))

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often answers are right, by how sure they are.

    Args:
        probabilities: `[N, way]`.
        labels: `[N]` integers.

    Returns:
        Each `[BINS]`: how many answers have their largest probability in the bin, the mean of these probabilities, and
        the share of the answers that are right; NaN where there are none.

    Example:
        >>> counts, sure, right = reliability(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
        >>> int(counts.sum()), sure[counts > 0], right[counts > 0]
        (2, array([0.8]), array([0.5]))
    """
    largest = np.asarray(probabilities, np.float64).max(-1)
    correct = np.argmax(probabilities, -1) == np.asarray(labels)
    bins = np.clip(np.ceil(largest * BINS).astype(int) - 1, 0, BINS - 1)  # each holds its upper end
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return counts, np.bincount(bins, largest, BINS) / counts, np.bincount(bins, correct, BINS) / counts


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How far the largest probability is from the share of right answers, on average over `BINS` bins of equal width.

    Formula:
        Σ_b n_b / N |right_b - sure_b|, with right_b and sure_b as `reliability` gives them

    Args:
        probabilities: `[N, way]`.
        labels: `[N]` integers.

    Example:
        >>> round(expected_calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])), 6)
        0.4
    """
    counts, sure, right = reliability(probabilities, labels)
    filled = counts > 0
    return float(np.abs(right - sure)[filled] @ counts[filled] / counts.sum())
