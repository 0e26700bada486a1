"""Loss weights and the outer rate against the properties that the paper gives them."""

import numpy as np
import pytest

from tf_mamlpp.meta.schedules import cosine_rate


def test_cosine():
    rates = [cosine_rate(epoch, 10, 1e-3, 1e-5) for epoch in range(11)]
    assert rates[0] == 1e-3
    assert rates[10] == pytest.approx(1e-5, rel=1e-12)
    assert rates[5] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-12)
    assert (np.diff(rates) < 0).all()
    np.testing.assert_allclose(np.add(rates, rates[::-1]), 1e-3 + 1e-5, rtol=1e-12)
    assert [cosine_rate(epoch, 10, 1e-3, 1e-5) for epoch in (10, 11, 20, 35)] == [1e-5] * 4
