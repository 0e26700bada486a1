"""What a run finds out about its own answers."""

import json

import numpy as np
import pytest

from tf_mamlpp.config import Data, Learner
from tf_mamlpp.data import ImageBank
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.training.build import make_learner
from tf_mamlpp.training.confidence import has_confidence, run_confidence, unknown_pictures


@pytest.fixture
def banks():
    """Makes the banks of splits of so many classes of flat greys with noise: banks(6)."""

    def make(classes):
        generator = np.random.default_rng(0)
        images = (np.arange(4 * classes) // 4 * 30)[:, None, None, None] + generator.integers(
            0, 9, (4 * classes, 8, 8, 1)
        )
        offsets, names = np.arange(0, 4 * classes + 1, 4), tuple(map(str, range(classes)))
        return {
            split: ImageBank(images.astype(np.uint8), offsets, names, f"greys {split}")
            for split in ("train", "validation", "test")
        }

    return make


@pytest.mark.parametrize("statistics", ["support", "batch"])
def test_a_run_without_training(make_config, banks, tmp_path, statistics):
    config = make_config(learner=Learner(inner_steps=2, query_statistics=statistics))
    learner = make_learner(config)
    before = [v.numpy() for v in learner.variables]
    found = run_confidence(config, banks(6), learner, tmp_path)
    assert found["tasks"] == {"validation": 4, "test": 4}
    assert found["temperature"] > 0 and set(found["expected_calibration_error"]) == {"before", "after"}
    assert json.loads(json.dumps(found)) == found
    assert (tmp_path / "reliability.png").stat().st_size > 0
    for variable, value in zip(learner.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert run_confidence(config, banks(6), learner, tmp_path) == found


def test_too_few_classes_for_unknown_pictures_are_told(make_config, banks, tmp_path, capsys):
    config = make_config()
    found = run_confidence(config, banks(3), make_learner(config), tmp_path)
    assert found["known"] is None and found["temperature"] > 0
    told = "greys validation: no class is left beside the 3 of a task: no score of being known is made"
    assert capsys.readouterr().out.splitlines() == [told]


def test_as_many_unknown_pictures_as_query_pictures(make_config, banks):
    assert unknown_pictures(make_config(data=Data(way=3, query_shot=2, image_size=(8, 8))), banks(4)) == 6


@pytest.mark.parametrize(
    "kind, has", [(OutputKind(), True), (OutputKind(values=True), False), (OutputKind(independent=True), False)]
)
def test_only_a_choice_of_classes_has_confidence(make_config, kind, has):
    assert has_confidence(make_config(), kind) is has
