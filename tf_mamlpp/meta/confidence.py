"""What makes a classifier's answers honest: a temperature, and a score of being known.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tf_mamlpp.meta.calibration import expected_calibration_error, fit_temperature, log_probabilities
from tf_mamlpp.meta.known_score import (
    DEPLOYED,
    SCORES,
    auroc,
    false_positive_rate,
    fit_logistic,
    keeping_threshold,
)


@dataclass(frozen=True)
class KnownScore:
    """Whether a picture is of one of the task's classes, as a number.

    Formula:
        known = 1 / (1 + exp(-(slope s + intercept))), s the score of the logits: the chance that a picture is of one of
        the task's classes, if half of all pictures are

    Attributes:
        score: one of `known_score.DEPLOYED`.
        slope: positive.
        intercept: beside it.
        threshold: in 0..1; 95 % of the known validation pictures reach it.

    Example:
        >>> KnownScore("largest_logit", slope=1.0, intercept=0.0, threshold=0.4)(np.array([[0.0, -3.0]]))
        array([0.5])
    """

    score: str
    slope: float
    intercept: float
    threshold: float

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """`[N]` from logits `[N, way]`."""
        return 0.5 * (1 + np.tanh((self.slope * SCORES[self.score](logits) + self.intercept) / 2))


@dataclass(frozen=True)
class Confidence:
    """What was fitted to a model's validation tasks.

    Attributes:
        temperature: that logits are divided by before the softmax.
        known: None where the tasks had no unknown pictures, or no score tells them from the others.

    Example:
        >>> Confidence().temperature, Confidence().known
        (1.0, None)
    """

    temperature: float = 1.0
    known: KnownScore | None = None


@dataclass(frozen=True)
class Observed:
    """A model's logits for the query pictures of many tasks.

    Attributes:
        logits: `[N, way]`, of the query pictures alone.
        labels: `[N]`.
        known, unknown: `[N, way]` and `[M, way]`, of the query pictures and of pictures of other classes, predicted
            together; None where there were no others.

    Example:
        >>> Observed(np.zeros((4, 2)), np.zeros(4, int)).unknown is None
        True
    """

    logits: np.ndarray
    labels: np.ndarray
    known: np.ndarray | None = None
    unknown: np.ndarray | None = None


def observe(
    predict: Callable[[np.ndarray, np.ndarray, np.ndarray], Any],
    tasks: Iterable[Mapping[str, Any]],
    query_statistics: str,
) -> Observed:
    """Collects the logits of a model on tasks.

    Args:
        predict: from `support_images`, `support_labels` and `query_images` of a meta-batch to logits
            `[tasks, Q, way]`.
        tasks: meta-batches, with `unknown_images` or all without.
        query_statistics: with `batch`, where a prediction depends on the other pictures, the query pictures are
            predicted once more without unknown ones.

    Example:
        >>> tasks = [{name: np.zeros((1, 2, 3)) for name in ("support_images", "query_images", "unknown_images")}]
        >>> tasks[0] |= {name: np.array([[0, 1]]) for name in ("support_labels", "query_labels")}
        >>> observe(lambda images, labels, queries: queries, tasks, "support").unknown.shape
        (2, 3)
    """
    found: dict[str, list[np.ndarray]] = {"logits": [], "labels": [], "known": [], "unknown": []}
    for task in tasks:
        support = np.asarray(task["support_images"]), np.asarray(task["support_labels"])
        queries, others = np.asarray(task["query_images"]), task.get("unknown_images")
        logits = None
        if others is not None:
            together = np.asarray(predict(*support, np.concatenate([queries, np.asarray(others)], 1)))
            logits, unknown = np.split(together, [queries.shape[1]], 1)
            found["known"].append(_flat(logits))
            found["unknown"].append(_flat(unknown))
        if logits is None or query_statistics == "batch":
            logits = np.asarray(predict(*support, queries))
        found["logits"].append(_flat(logits))
        found["labels"].append(np.ravel(task["query_labels"]))
    return Observed(**{name: np.concatenate(parts) for name, parts in found.items() if parts})


def _flat(logits: np.ndarray) -> np.ndarray:
    return logits.reshape(-1, logits.shape[-1]).astype(np.float64)


def fit_confidence(observed: Observed) -> Confidence:
    """Fits temperature and score to what was observed on validation tasks.

    Args:
        observed: of validation tasks.

    Returns:
        The score that tells known from unknown pictures best, by AUROC, with the threshold that keeps 95 % of the known
        ones; none where not even that is better than chance.

    Example:
        >>> logits = np.repeat([[4.0, 0.0]], 4, 0)
        >>> found = fit_confidence(Observed(logits, np.array([0, 0, 0, 1]), logits, logits / 4))
        >>> round(found.temperature, 2), found.known.score
        (3.64, 'largest_logit')
    """
    temperature = fit_temperature(observed.logits, observed.labels)
    if observed.known is None or observed.unknown is None:
        return Confidence(temperature)
    both = {name: (SCORES[name](observed.known), SCORES[name](observed.unknown)) for name in DEPLOYED}
    best = max(both, key=lambda name: auroc(*both[name]))
    slope, intercept = fit_logistic(*both[best])
    if auroc(*both[best]) <= 0.5 or slope <= 0:
        return Confidence(temperature)
    score = KnownScore(best, slope, intercept, 0.0)
    threshold = keeping_threshold(score(observed.known))
    return Confidence(temperature, KnownScore(best, slope, intercept, threshold))


def describe_confidence(confidence: Confidence, observed: Observed) -> dict[str, Any]:
    """What `results.json` and `metadata.json` say of it; docs/results.md explains the keys.

    Args:
        confidence: fitted to validation tasks.
        observed: of test tasks.

    Example:
        >>> logits = np.repeat([[4.0, 0.0]], 4, 0)
        >>> tasks = Observed(logits, np.array([0, 0, 0, 1]), logits, logits / 4)
        >>> told = describe_confidence(fit_confidence(tasks), tasks)
        >>> told["expected_calibration_error"]["after"] < 1e-6, told["known"]["auroc"]["largest_logit"]
        (True, 1.0)
    """

    def error(temperature: float) -> float:
        return expected_calibration_error(np.exp(log_probabilities(observed.logits, temperature)), observed.labels)

    told: dict[str, Any] = {
        "temperature": confidence.temperature,
        "expected_calibration_error": {"before": error(1.0), "after": error(confidence.temperature)},
    }
    known = confidence.known
    if known is None or observed.known is None or observed.unknown is None:
        return {**told, "known": None}
    both = {name: (score(observed.known), score(observed.unknown)) for name, score in SCORES.items()}
    return {
        **told,
        "known": {
            "score": known.score,
            "slope": known.slope,
            "intercept": known.intercept,
            "threshold": known.threshold,
            "auroc": {name: auroc(*scores) for name, scores in both.items()},
            "false_positive_rate_95": {name: false_positive_rate(*scores) for name, scores in both.items()},
            "known_kept": float(np.mean(known(observed.known) >= known.threshold)),
            "unknown_found": float(np.mean(known(observed.unknown) < known.threshold)),
        },
    }
