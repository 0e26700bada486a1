"""Temperature and score together, fitted to one set of tasks and measured on another."""

import numpy as np
import pytest

from tf_mamlpp.meta.confidence import Confidence, KnownScore, Observed, describe_confidence, fit_confidence, observe
from tf_mamlpp.meta.known_score import OF_LOGITS


def drawn(seed, unknown=1.0):
    """Logits of two classes that know 3000 pictures, three times too sure, and have smaller ones for unknown ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(3000, 2)) + 2
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(-1)
    others = generator.normal(size=(2000, 2)) + 2 - unknown
    known, others = ({name: score(3 * x) for name, score in OF_LOGITS.items()} for x in (logits, others))
    return Observed(3 * logits, labels, known, others)


def test_fits_and_measures():
    confidence = fit_confidence(drawn(0))
    told = describe_confidence(confidence, drawn(1))
    assert confidence.temperature == pytest.approx(3, rel=0.1)
    error = told["expected_calibration_error"]
    assert error["after"] < 0.03 < error["before"]
    known = told["known"]
    assert known["score"] == "energy" and known["auroc"]["energy"] > max(
        known["auroc"][name] for name in ("largest_logit", "probability")
    )
    assert known["known_kept"] == pytest.approx(0.95, abs=0.015)
    assert known["unknown_found"] == pytest.approx(1 - known["false_positive_rate_95"]["energy"], abs=0.05)
    assert all(0 <= known[key][name] <= 1 for key in ("auroc", "false_positive_rate_95") for name in OF_LOGITS)


def test_the_threshold_is_in_the_scale_of_known():
    observed = drawn(0)
    known = fit_confidence(observed).known
    assert 0 < known.threshold < 1
    assert np.mean(known(observed.known[known.score]) >= known.threshold) == pytest.approx(0.95, abs=1e-3)


def test_known_is_a_rising_function_of_the_score_in_0_to_1():
    score = KnownScore("largest_logit", slope=2.0, intercept=-1.0, threshold=0.5)
    values = score(np.linspace(-1e4, 1e4, 1001))
    assert (values >= 0).all() and (values <= 1).all() and (np.diff(values) >= 0).all()
    assert score(np.array([0.5])) == pytest.approx([0.5])


@pytest.mark.parametrize("unknown", [0.0, -1.0])
def test_there_is_no_score_where_none_tells(unknown):
    """Unknown pictures have the same, or larger, logits."""
    observed = drawn(0, unknown)
    if not unknown:
        observed = Observed(observed.logits, observed.labels, observed.known, observed.known)
    assert fit_confidence(observed).known is None


def test_without_unknown_pictures_there_is_a_temperature_alone():
    observed = Observed(drawn(0).logits, drawn(0).labels)
    confidence = fit_confidence(observed)
    assert confidence == Confidence(fit_confidence(drawn(0)).temperature)
    assert describe_confidence(confidence, observed)["known"] is None


def test_the_score_that_tells_best_is_taken():
    observed = drawn(0)
    generator = np.random.default_rng(1)
    known = {**observed.known, "distance": generator.normal(3, 1, 3000)}
    unknown = {**observed.unknown, "distance": generator.normal(0, 1, 2000)}
    with_distance = Observed(observed.logits, observed.labels, known, unknown)
    assert fit_confidence(with_distance).known.score == "distance"
    told = describe_confidence(fit_confidence(with_distance), with_distance)["known"]
    assert told["auroc"]["distance"] == max(told["auroc"].values()) and set(told["auroc"]) == {"distance", *OF_LOGITS}


@pytest.mark.parametrize("statistics, calls", [("support", 1), ("running", 1), ("batch", 2)])
def test_known_and_unknown_pictures_are_predicted_together(statistics, calls):
    """A prediction that depends on the others, as with `batch`: pictures minus their mean."""
    seen = []

    def predict(images, labels, queries):
        seen.append(queries.shape[1])
        logits = queries - queries.mean(1, keepdims=True)
        return logits, -np.abs(logits).sum(-1)

    task = {"support_images": np.zeros((2, 3, 2)), "support_labels": np.zeros((2, 3), int)}
    task |= {"query_images": np.arange(12.0).reshape(2, 3, 2), "query_labels": np.zeros((2, 3), int)}
    found = observe(predict, [task | {"unknown_images": np.full((2, 1, 2), 100.0)}], statistics)
    alone = observe(predict, [task], statistics)
    assert seen == ([4, 3, 3] if calls == 2 else [4, 3])
    assert set(found.known) == {"distance", *OF_LOGITS}
    assert {score.shape for score in found.known.values()} == {(6,)} and found.labels.shape == (6,)
    assert {score.shape for score in found.unknown.values()} == {(2,)} and alone.unknown is None
    assert (found.logits == alone.logits).all() == (calls == 2)
    assert not np.allclose(found.known["largest_logit"], alone.logits.max(-1))
