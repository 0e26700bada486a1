from dataclasses import replace

import numpy as np
import pytest

from tf_mamlpp.benchmark.cases import CASES, GROWTH, GROWTH_BASE, Case, choose_cases, growth_points, random_tasks
from tf_mamlpp.errors import UserError


def test_cases_by_name():
    assert choose_cases(["resnet12"]) == {"resnet12": CASES["resnet12"]}
    assert choose_cases(["all"]) == CASES
    with pytest.raises(UserError, match="unknown case 'imagenet'; cases are omniglot_5way_1shot, .*resnet12, or all"):
        choose_cases(["resnet12", "imagenet"])


def test_no_case_is_refused():
    with pytest.raises(UserError, match="no case is named; cases are omniglot_5way_1shot, "):
        choose_cases([])


def test_the_last_steps_loss_has_a_name_of_its_own():
    (name, case), *_ = choose_cases(["mini_imagenet_1shot"], last_step_loss=True).items()
    assert name == "mini_imagenet_1shot_last_step_loss"
    assert case == replace(CASES["mini_imagenet_1shot"], multi_step_loss=False)


def test_rematerialised_cases_have_names_of_their_own_too():
    found = choose_cases(["resnet12", "omniglot_20way_1shot"], last_step_loss=True, rematerialise=True)
    assert found == {
        f"{name}_last_step_loss_rematerialised": replace(CASES[name], multi_step_loss=False, rematerialise=True)
        for name in ("resnet12", "omniglot_20way_1shot")
    }


def test_one_field_grows_at_a_time():
    points = list(growth_points())
    assert {(field, value) for field, value, _ in points} == {(f, v) for f, values in GROWTH.items() for v in values}
    for field, value, case in points:
        assert getattr(case, field) == value
        assert replace(case, **{field: getattr(GROWTH_BASE, field)}) == GROWTH_BASE


def test_tasks_have_the_cases_shape():
    tasks = random_tasks(Case(way=3, shot=2, query_shot=4, tasks=5, image_shape=(8, 6, 2)), "float64")
    assert {name: value.shape for name, value in tasks.items()} == {
        "support_images": (5, 6, 8, 6, 2),
        "support_labels": (5, 6),
        "query_images": (5, 12, 8, 6, 2),
        "query_labels": (5, 12),
    }
    assert tasks["query_images"].dtype == np.float64
    assert all(np.bincount(labels).tolist() == [2, 2, 2] for labels in tasks["support_labels"])
