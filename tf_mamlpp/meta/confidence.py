"""What makes a classifier's answers honest: a temperature, and a score of being known.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tf_mamlpp.meta.calibration import expected_calibration_error, fit_temperature, log_probabilities
from tf_mamlpp.meta.known_score import (
    DEPLOYED,
    DISTANCE,
    OF_LOGITS,
    auroc,
    false_positive_rate,
    fit_logistic,
    keeping_threshold,
)


@dataclass(frozen=True)
class KnownScore:
    """Whether a picture is of one of the task's classes, as a number.

    Formula:
        known = 1 / (1 + exp(-(slope s + intercept))), s the score: the chance that a picture is of one of the task's
        classes, if half of all pictures are

    Attributes:
        score: one of `known_score.DEPLOYED`.
        slope: positive.
        intercept: beside it.
        threshold: in 0..1; 95 % of the known validation pictures reach it.

    Example:
        >>> KnownScore("distance", slope=1.0, intercept=4.0, threshold=0.4)(np.array([-4.0]))
        array([0.5])
    """

    score: str
    slope: float
    intercept: float
    threshold: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """`[N]` from scores `[N]`."""
        return 0.5 * (1 + np.tanh((self.slope * np.asarray(scores, np.float64) + self.intercept) / 2))


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

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Confidence:
        """Reads what `describe_confidence` told.

        Args:
            told: None for a model that none was fitted to.

        Example:
            >>> Confidence.of({"temperature": 0.5, "known": None})
            Confidence(temperature=0.5, known=None)
        """
        if told is None:
            return cls()
        known = told["known"]
        return cls(told["temperature"], known and KnownScore(**{f.name: known[f.name] for f in fields(KnownScore)}))


Scores = Mapping[str, np.ndarray]
"""Of pictures, `[N]` each, by the names of the scores."""


@dataclass(frozen=True)
class Observed:
    """What a model gave for the query pictures of many tasks.

    Attributes:
        logits: `[N, way]`, of the query pictures alone.
        labels: `[N]`.
        known, unknown: the scores of the query pictures and of pictures of other classes, predicted together; None
            where there were no others.

    Example:
        >>> Observed(np.zeros((4, 2)), np.zeros(4, int)).unknown is None
        True
    """

    logits: np.ndarray
    labels: np.ndarray
    known: Scores | None = None
    unknown: Scores | None = None


Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""From `support_images`, `support_labels` and `query_images` of a meta-batch to logits `[tasks, Q, way]` and the score
`distance` `[tasks, Q]`, None of a model that has none."""


def observe(predict: Predict, tasks: Iterable[Mapping[str, Any]], query_statistics: str) -> Observed:
    """Collects what a model gives for the query pictures of tasks.

    Args:
        predict: of the model.
        tasks: meta-batches, with `unknown_images` or all without.
        query_statistics: with `batch`, where a prediction depends on the other pictures, the query pictures are
            predicted once more without unknown ones.

    Example:
        >>> tasks = [{name: np.zeros((1, 2, 3)) for name in ("support_images", "query_images", "unknown_images")}]
        >>> tasks[0] |= {name: np.array([[0, 1]]) for name in ("support_labels", "query_labels")}
        >>> found = observe(lambda images, labels, queries: (queries, None), tasks, "support")
        >>> {name: score.shape for name, score in found.unknown.items()}
        {'largest_logit': (2,), 'energy': (2,), 'probability': (2,)}
    """
    logits, labels, known, unknown = [], [], [], []
    for task in tasks:
        support = np.asarray(task["support_images"]), np.asarray(task["support_labels"])
        queries, others = np.asarray(task["query_images"]), task.get("unknown_images")
        labels.append(np.ravel(task["query_labels"]))
        of_queries = None
        if others is not None:
            together, distance = predict(*support, np.concatenate([queries, np.asarray(others)], 1))
            count = queries.shape[1]
            of_queries = together[:, :count]
            known.append(_scores(of_queries, None if distance is None else distance[:, :count]))
            unknown.append(_scores(together[:, count:], None if distance is None else distance[:, count:]))
        if of_queries is None or query_statistics == "batch":
            of_queries = predict(*support, queries)[0]
        logits.append(_flat(of_queries))
    return Observed(np.concatenate(logits), np.concatenate(labels), _joined(known), _joined(unknown))


def _flat(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits, np.float64).reshape(-1, logits.shape[-1])


def _scores(logits: np.ndarray, distance: np.ndarray | None) -> Scores:
    found = {name: score(_flat(logits)) for name, score in OF_LOGITS.items()}
    return found if distance is None else {DISTANCE: np.ravel(distance).astype(np.float64), **found}


def _joined(parts: list[Scores]) -> Scores | None:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else None


def fit_confidence(observed: Observed) -> Confidence:
    """Fits temperature and score to what was observed on validation tasks.

    Args:
        observed: of validation tasks.

    Returns:
        The score that tells known from unknown pictures best, by AUROC, with the threshold that keeps 95 % of the known
        ones; none where not even that is better than chance.

    Example:
        >>> logits, labels = np.repeat([[4.0, 0.0]], 4, 0), np.array([0, 0, 0, 1])
        >>> found = fit_confidence(Observed(logits, labels, {"energy": np.ones(4)}, {"energy": np.zeros(4)}))
        >>> round(found.temperature, 2), found.known.score
        (3.64, 'energy')
    """
    temperature = fit_temperature(observed.logits, observed.labels)
    if observed.known is None or observed.unknown is None:
        return Confidence(temperature)
    both = {name: (observed.known[name], observed.unknown[name]) for name in DEPLOYED if name in observed.known}
    best = max(both, key=lambda name: auroc(*both[name]))
    slope, intercept = fit_logistic(*both[best])
    if auroc(*both[best]) <= 0.5 or slope <= 0:
        return Confidence(temperature)
    score = KnownScore(best, slope, intercept, 0.0)
    threshold = keeping_threshold(score(observed.known[best]))
    return Confidence(temperature, KnownScore(best, slope, intercept, threshold))


def describe_confidence(confidence: Confidence, observed: Observed) -> dict[str, Any]:
    """What `results.json` and `metadata.json` say of it; docs/results.md explains the keys.

    Args:
        confidence: fitted to validation tasks.
        observed: of test tasks.

    Example:
        >>> logits, labels = np.repeat([[4.0, 0.0]], 4, 0), np.array([0, 0, 0, 1])
        >>> tasks = Observed(logits, labels, {"energy": np.ones(4)}, {"energy": np.zeros(4)})
        >>> told = describe_confidence(fit_confidence(tasks), tasks)
        >>> told["expected_calibration_error"]["after"] < 1e-6, told["known"]["auroc"]
        (True, {'energy': 1.0})
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
    both = {name: (observed.known[name], observed.unknown[name]) for name in observed.known}
    kept, passed = (np.mean(known(scores) >= known.threshold) for scores in both[known.score])
    return {
        **told,
        "known": {
            "score": known.score,
            "slope": known.slope,
            "intercept": known.intercept,
            "threshold": known.threshold,
            "auroc": {name: auroc(*scores) for name, scores in both.items()},
            "false_positive_rate_95": {name: false_positive_rate(*scores) for name, scores in both.items()},
            "known_kept": float(kept),
            "unknown_found": float(1 - passed),
        },
    }
