"""Whether a picture is of any class of the task at all: scores, and how well they tell.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tf_mamlpp.meta.calibration import log_probabilities

KEPT = 0.95
"""The share of known pictures that a threshold keeps."""


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return logits.max(-1) - log_probabilities(logits).max(-1)


OF_LOGITS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "largest_logit": lambda logits: np.asarray(logits, np.float64).max(-1),
    "energy": _log_sum_exp,
    "probability": lambda logits: np.exp(log_probabilities(logits).max(-1)),
}
"""Scores `[N]` of logits `[N, way]` that are larger for known pictures: the largest logit, the (negative) energy
log Σ_c exp z_c, and the largest probability, the usual baseline."""

DISTANCE = "distance"
"""The score of a model that ends in a dense layer: minus the squared distance of its features to the nearest class's
mean features in the support set, both after the inner loop."""

DEPLOYED = (DISTANCE, "largest_logit", "energy")
"""Those that a model can be exported with: in float32, probabilities near 1 are all the same."""


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """The probability that a known picture has a larger score than an unknown one; ties count half.

    Args:
        known, unknown: scores `[N]` and `[M]`.

    Example:
        >>> auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
        0.875
    """
    ordered = np.sort(unknown)
    below, not_above = (np.searchsorted(ordered, known, side=side) for side in ("left", "right"))
    return float(np.mean(below + not_above) / (2 * len(ordered)))


def keeping_threshold(known: np.ndarray) -> float:
    """The largest score that at least 95 % of known pictures reach.

    Args:
        known: scores `[N]`.

    Example:
        >>> keeping_threshold(np.arange(100.0))
        5.0
    """
    return float(np.sort(known)[int(np.floor((1 - KEPT) * len(known) + 1e-9))])


def false_positive_rate(known: np.ndarray, unknown: np.ndarray) -> float:
    """The share of unknown pictures that pass for known at the threshold that keeps 95 % of known ones.

    Args:
        known, unknown: scores `[N]` and `[M]`.

    Example:
        >>> false_positive_rate(np.arange(100.0), np.array([0.0, 4.0, 5.0, 50.0]))
        0.5
    """
    return float(np.mean(unknown >= keeping_threshold(known)))


def fit_logistic(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """The logistic function of a score that tells known from unknown pictures, as if half of all were known.

    Formula:
        known(s) = 1 / (1 + exp(-(a s + b))), of least cross-entropy with the targets (N+1)/(N+2) for the N known and
        1/(M+2) for the M unknown pictures, which keep it finite where a score tells all apart

    Args:
        known, unknown: scores `[N]` and `[M]`.

    Returns:
        The slope a and the intercept b.

    Example:
        >>> slope, intercept = fit_logistic(np.array([1.0, 1.0]), np.array([-1.0, -1.0]))
        >>> round(slope, 6), round(abs(intercept), 6)  # log(3): a target of 3/4
        (1.098612, 0.0)

    References:
        Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    scores = np.concatenate([known, unknown]).astype(np.float64)
    centre, width = scores.mean(), scores.std() or 1.0
    inputs = np.stack([(scores - centre) / width, np.ones_like(scores)], 1)
    n, m = len(known), len(unknown)
    targets = np.repeat([(n + 1) / (n + 2), 1 / (m + 2)], [n, m])
    weights = np.repeat([0.5 / n, 0.5 / m], [n, m])

    def loss(at: np.ndarray) -> float:
        values = inputs @ at
        return float(weights @ (np.logaddexp(0, values) - targets * values))

    found = np.zeros(2)
    for _ in range(100):  # Newton's method; a step is halved while it does not descend
        chances = 1 / (1 + np.exp(-inputs @ found))
        gradient = inputs.T @ (weights * (chances - targets))
        curvature = (inputs * (weights * chances * (1 - chances))[:, np.newaxis]).T @ inputs
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        size, before = 1.0, loss(found)
        while size > 1e-6 and not loss(found - size * step) <= before:
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-12:
            break
    return float(found[0] / width), float(found[1] - found[0] * centre / width)
