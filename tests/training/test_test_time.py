"""Options of a test: each leaves the test without it as it is."""

import dataclasses

import numpy as np
import pytest

from tf_mamlpp.config import Config, Data, Learner
from tf_mamlpp.data.augmentation import Augmentation
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.results import evaluate_run
from tf_mamlpp.training.test_time import check_options, support_copies


@pytest.fixture
def run(trained, monkeypatch):
    root, workdir, results = trained
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(root.parent / "cache"))
    return workdir, results


def test_the_best_number_of_steps_is_that_of_the_validation_curve(run):
    workdir, results = run
    (found,) = evaluate_run(workdir, [None], inner_steps="best")
    (validation,) = evaluate_run(workdir, [None], split="validation", tasks=2, inner_steps=3)
    chosen = found["inner_steps_chosen"]
    assert chosen["accuracy_per_inner_step"] == validation["accuracy_per_inner_step"]
    assert (chosen["dataset"], chosen["split"], chosen["tasks"]) == ("image_folder", "validation", 2)
    assert found["inner_steps"] == int(np.argmax(chosen["accuracy_per_inner_step"]))
    (given,) = evaluate_run(workdir, [None], inner_steps=found["inner_steps"])
    assert given == {key: found[key] for key in given}


def test_copies_of_support_pictures(run):
    workdir, results = run
    (found,) = evaluate_run(workdir, [None], support_augmentations=3)
    assert found["support_augmentations"] == 3
    assert found["accuracy_per_inner_step"][0] == results["accuracy_per_inner_step"][0]  # before any step
    (without,) = evaluate_run(workdir, [None], support_augmentations=0)
    assert without == {key: results[key] for key in without}


def test_copies_are_changed_as_the_config_says():
    own = Augmentation(crop_padding=1, flip=True)
    assert support_copies(Config(augmentation=own), 2).augmentation == own
    assert support_copies(Config(), 2).augmentation == Augmentation(crop_padding=2)
    in_colour = Config(data=Data(image_size=(84, 84), channels=3))
    assert support_copies(in_colour, 2).augmentation.flip
    assert support_copies(in_colour, 0) is None


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [({}, -1, "support_augmentations is -1"), ({"data": Data(name="sinusoid")}, 2, "which has no pictures")],
)
def test_no_copies(changes, count, message):
    with pytest.raises(UserError, match=message):
        support_copies(dataclasses.replace(Config(), **changes), count)


@pytest.mark.parametrize(
    ("sections", "options", "message"),
    [
        ({}, {"inner_steps": "most"}, "inner_steps is a whole number or best, not 'most'"),
        ({}, {"inner_steps": "best", "split": "validation"}, "which then are no test"),
        ({"learner": Learner(prototypes=True)}, {"inner_steps": "best"}, "no inner loop"),
        ({"data": Data(name="sinusoid")}, {"report": True}, "no classes to report on"),
    ],
)
def test_options_that_do_not_go_with_a_run(sections, options, message):
    with pytest.raises(UserError, match=message):
        check_options(
            Config(**sections), **{"own": True, "split": None, "inner_steps": None, "report": False, **options}
        )
