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


def test_trials_with_pictures_of_other_classes(model, support):
    """Greys are 127 apart: all of the class that is left out are found, and all others kept."""
    found = run_trials(model, support, way=2, shot=1, query_shot=1, count=4, unknown=3)
    assert found["accuracy"] == (1.0, 0.0)
    assert found["known_kept"] == found["unknown_found"] == found["auroc"] == (1.0, 0.0)


def test_trials_that_cannot_have_unknown_pictures(model, support):
    with pytest.raises(UserError, match="no class is left beside the 3 of a trial: give --way=2, or add one"):
        run_trials(model, support, way=3, shot=1, query_shot=1, count=2, unknown=1)
    model.threshold = None
    with pytest.raises(UserError, match="^this model has no threshold"):
        run_trials(model, support, way=2, shot=1, query_shot=1, count=2, unknown=1)
