"""Leaps, progress and trends of series."""

import math

import numpy as np
import pytest

from tf_mamlpp.records.series import improving, leap, progress, running_median, spikes

RISING = [0.9 - 0.6 * math.exp(-i / 3) for i in range(12)]


SETTLED = [0.5, 0.7, 0.8, 0.85, 0.86, 0.85, 0.86, 0.85, 0.86, 0.85, 0.86, 0.85]


def test_the_median_is_of_the_values_before():
    found = running_median([1, 2, 9, 4, 5], window=3)
    np.testing.assert_array_equal(found, [np.nan] * 3 + [2, 4])
    assert np.isnan(running_median([1, 2], window=3)).all()


def test_a_spike_is_beyond_its_level_and_beyond_the_start():
    values = np.r_[np.full(60, 2.0), np.full(100, 0.1)]
    values[100] = 3.9  # 39 times its level, but the run began near there
    values[120:123] = 5.0
    values[155] = math.inf
    assert spikes(values, 5.0) == [120]  # within 50 of the one before: the same burst
    values[105:] = np.r_[np.full(5, 4.5), np.full(50, 0.1)]
    assert spikes(values, 5.0) == [105]
    assert spikes(values[:40], 5.0) == []


def test_steady_noise_has_no_spike():
    generator = np.random.default_rng(0)
    decay = np.exp(-np.arange(3000) / 600)
    assert spikes(decay * generator.lognormal(0, 0.7, 3000), 5.0) == []


def test_progress_is_what_is_kept_of_the_best():
    np.testing.assert_allclose(progress([0.2, 0.6, 0.4, 1.0], 0.2), [1, 1, 0.5, 1])
    np.testing.assert_allclose(progress([4.0, 1.0, 2.5], 4.0, minimise=True), [1, 1, 0.5])


@pytest.mark.parametrize(
    ("values", "expected"), [(RISING, True), (SETTLED, False), ([0.2, 0.3], True), ([0.3, 0.2], False), ([0.3], False)]
)
def test_improving(values, expected):
    assert improving(values) is expected
    assert improving([-v for v in values], minimise=True) is expected


def test_a_leap_names_both_levels():
    assert leap([1, 1, 1, 1, 1, 500, math.nan]) == "; the meta-gradient's norm had leapt from about 1 to 500"
    assert leap([1, 1, 1, 1, 2]) == leap([math.nan] * 9) == ""


def test_a_running_median_of_a_long_series():
    values = np.random.default_rng(0).normal(size=9000)
    expected = [np.median(values[i - 50 : i]) for i in range(50, 9000)]
    np.testing.assert_array_equal(running_median(values)[50:], expected)
