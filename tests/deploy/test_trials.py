"""Trials of the stand-in model."""

import pytest

from tf_mamlpp.deploy.trials import run_trials
from tf_mamlpp.errors import UserError


def test_trials(model, support):
    """Classes that grey alone tells apart: both the model and nearest pixels are always right."""
    found = run_trials(model, support, way=3, shot=1, query_shot=1, count=4)
    assert found == {"accuracy": (1.0, 0.0), "nearest_pixel": (1.0, 0.0)}
    with pytest.raises(UserError, match="trials of 4 classes"):
        run_trials(model, support, way=4, shot=1, query_shot=1, count=4)
    with pytest.raises(UserError):
        run_trials(model, support, way=3, shot=2, query_shot=1, count=4)


def test_a_pool_that_cannot_be_read(model, tmp_path):
    (tmp_path / "pool" / "a").mkdir(parents=True)
    (tmp_path / "pool" / "a" / "0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="no picture in .* can be read"):
        run_trials(model, tmp_path / "pool", way=2, shot=1, query_shot=1, count=2)
