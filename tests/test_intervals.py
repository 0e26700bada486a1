"""Means and their intervals."""

import math

import numpy as np
import pytest

from tf_mamlpp.intervals import mean_interval


def test_the_interval_is_the_textbook_s():
    assert mean_interval([1.0, 2.0, 3.0], 2.0) == pytest.approx((2.0, 2.0 / np.sqrt(3)))


def test_a_single_value_has_no_interval():
    mean, half = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(half)
