"""Temperature and calibration error beside closed forms."""

import numpy as np
import pytest

from tf_mamlpp.meta.calibration import (
    BINS,
    COLDEST,
    HOTTEST,
    expected_calibration_error,
    fit_temperature,
    log_probabilities,
    reliability,
)


def softmax(logits):
    return np.exp(log_probabilities(logits))


@pytest.mark.parametrize("right, of, gap", [(3, 4, 2.0), (9, 10, 2.0), (51, 100, 2.0)])
def test_two_classes_have_a_closed_form(right, of, gap):
    """One pair of logits: probability of the first is the share of answers that are right, sigmoid(gap / T)."""
    logits, labels = np.repeat([[gap, 0.0]], of, 0), np.arange(of) >= right
    odds = right / (of - right)
    assert fit_temperature(logits, labels.astype(int)) == pytest.approx(gap / np.log(odds), rel=1e-9)
    calibrated = softmax(logits / fit_temperature(logits, labels.astype(int)))
    assert expected_calibration_error(calibrated, labels.astype(int)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_finds_the_temperature_that_labels_were_drawn_with(temperature):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(40_000, 5)) * 3
    gumbel = generator.gumbel(size=logits.shape)
    labels = (logits / temperature + gumbel).argmax(-1)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.02)


@pytest.mark.parametrize("labels, found", [([0, 0], COLDEST), ([1, 1], HOTTEST)])
def test_where_all_is_right_or_wrong_the_range_ends(labels, found):
    assert fit_temperature(np.repeat([[1.0, 0.0]], 2, 0), np.array(labels)) == pytest.approx(found, rel=1e-6)


def test_large_logits_do_no_harm():
    logits = np.array([[1e30, 0.0], [-1e30, 1e30], [0.0, 0.0]])
    assert np.isfinite(log_probabilities(logits)).all()
    assert np.isfinite(fit_temperature(logits, np.array([0, 1, 0])))
    assert softmax(logits)[2].tolist() == [0.5, 0.5]


def test_calibration_error_by_hand():
    """Two bins: 0.9 sure and 2 of 4 right; 0.6 sure and 1 of 1 right."""
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    labels = np.array([0, 0, 1, 1, 0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.8 * 0.4 + 0.2 * 0.4)
    counts, sure, right = reliability(probabilities, labels)
    assert counts.sum() == 5 and len(counts) == BINS
    assert right[counts == 4] == [0.5] and sure[counts == 1] == pytest.approx(0.6)
    assert np.isnan(sure[counts == 0]).all()


def test_bins_hold_their_upper_end():
    """Probabilities of 0 and 1 are in the first and last bin, k/15 in bin k - 1."""
    probabilities = np.array([[1.0, 0.0], [1 / 15, 1 / 15], [2 / 15, 0.0], [0.0, 0.0]])
    counts, *_ = reliability(probabilities, np.zeros(4, int))
    assert (counts[-1], counts[0], counts[1], counts.sum()) == (1, 2, 1, 4)
