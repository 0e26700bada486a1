"""Scores, AUROC, the false-positive rate and the logistic function beside closed forms."""

import math

import numpy as np
import pytest

from tf_mamlpp.meta.known_score import (
    DEPLOYED,
    OF_LOGITS,
    auroc,
    false_positive_rate,
    fit_logistic,
    keeping_threshold,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_scores_by_hand():
    logits = np.array([[0.0, math.log(3.0)]])
    found = {name: score(logits)[0] for name, score in OF_LOGITS.items()}
    assert found == pytest.approx({"largest_logit": math.log(3), "energy": math.log(4), "probability": 0.75})
    assert set(DEPLOYED) - set(OF_LOGITS) == {"distance"}


def test_the_energy_of_large_logits_is_finite():
    assert OF_LOGITS["energy"](np.array([[1e5, 1e5], [-1e30, -1e30]])) == pytest.approx([1e5 + math.log(2), -1e30])


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_counts_pairs(generator, ties):
    known, unknown = generator.normal(1, 1, 60), generator.normal(0, 1, 45)
    if ties:
        known, unknown = known.round(), unknown.round()
    pairs = known[:, None] - unknown
    assert auroc(known, unknown) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)), abs=1e-12)


def test_auroc_of_normal_scores(generator):
    """Two normal distributions of variance 1, d apart, have an AUROC of Φ(d/√2)."""
    found = auroc(generator.normal(1, 1, 20_000), generator.normal(0, 1, 20_000))
    assert found == pytest.approx(0.5 * (1 + math.erf(0.5)), abs=0.01)


def test_auroc_at_its_ends():
    one, two = np.array([1.0, 1.0]), np.array([2.0, 3.0])
    assert (auroc(two, one), auroc(one, two), auroc(one, one)) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100, 599, 600])
def test_the_threshold_keeps_95_percent_and_no_larger_one_does(generator, count):
    known = generator.normal(size=count)
    threshold = keeping_threshold(known)
    assert np.mean(known >= threshold) >= 0.95
    assert np.mean(known > threshold) < 0.95


def test_false_positive_rate():
    known = np.arange(100.0)
    assert false_positive_rate(known, np.array([4.9, 5.0, -1.0, 1e9])) == 0.5
    assert false_positive_rate(np.ones(9), np.ones(7)) == 1.0  # a score that says nothing lets all pass


def test_the_logistic_function_of_normal_scores(generator):
    """The log odds of N(2, 1) beside N(0, 1) are 2 s - 2, whatever their numbers."""
    slope, intercept = fit_logistic(generator.normal(2, 1, 40_000), generator.normal(0, 1, 10_000))
    assert (slope, intercept) == pytest.approx((2.0, -2.0), abs=0.1)


@pytest.mark.parametrize("scale, shift", [(1e-4, 0.0), (1e4, 1e6), (1.0, -1e5)])
def test_the_logistic_function_goes_with_the_scale(generator, scale, shift):
    known, unknown = generator.normal(2, 1, 200), generator.normal(0, 1, 200)
    slope, intercept = fit_logistic(known, unknown)
    scaled, shifted = fit_logistic(scale * known + shift, scale * unknown + shift)
    assert scaled * scale == pytest.approx(slope, rel=1e-5)
    assert scaled * shift + shifted == pytest.approx(intercept, rel=1e-4, abs=1e-4)


def test_scores_that_tell_all_apart_stay_finite():
    slope, intercept = fit_logistic(np.full(8, 3.0), np.full(8, -3.0))
    assert 1 / (1 + math.exp(-3 * slope - intercept)) == pytest.approx(0.9)  # (8 + 1) / (8 + 2)


@pytest.mark.parametrize("known, unknown, sign", [([1.0, 1.0], [1.0, 1.0], 0), ([0.0, 1.0], [5.0, 6.0], -1)])
def test_a_score_that_says_nothing_or_the_opposite(known, unknown, sign):
    slope, intercept = fit_logistic(np.array(known), np.array(unknown))
    assert np.sign(round(slope, 9)) == sign and math.isfinite(intercept)
