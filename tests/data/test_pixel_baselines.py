from dataclasses import replace

import numpy as np
import pytest

from tf_mamlpp.data import nearest_class_mean_accuracy, nearest_pixel_accuracy, sample_task
from tf_mamlpp.errors import UserError

SETTINGS = {"way": 3, "shot": 1, "query_shot": 2, "tasks": 40, "seed": 5, "split": "test"}


@pytest.fixture
def noise(numbered_bank):
    """The bank with random pictures."""
    images = np.random.default_rng(0).integers(0, 256, numbered_bank.images.shape, dtype=np.uint8)
    return replace(numbered_bank, images=images)


def test_classes_of_one_colour_are_always_told_apart(numbered_bank):
    colours = np.repeat(np.arange(5) * 50, np.diff(numbered_bank.offsets)).astype(np.uint8)
    bank = replace(numbered_bank, images=numbered_bank.images * 0 + colours[:, None, None, None])
    assert nearest_pixel_accuracy(bank, **SETTINGS) == (1.0, 0.0)


def test_agrees_with_plain_loops_on_the_same_tasks(noise):
    accuracies = []
    for index in range(40):
        task = sample_task(noise, way=3, shot=1, query_shot=2, seed=5, split="test", index=index, rotations=False)
        support = task["support_images"].astype(float)
        named = [np.argmin([((q - s) ** 2).sum() for s in support]) for q in task["query_images"].astype(float)]
        accuracies.append(np.mean(named == task["query_labels"]))
    accuracy, half = nearest_pixel_accuracy(noise, **SETTINGS)
    assert accuracy == pytest.approx(np.mean(accuracies))
    assert half == pytest.approx(1.96 * np.std(accuracies, ddof=1) / np.sqrt(40))


def test_nearest_class_mean_is_nearest_pixel_for_one_shot_alone(noise):
    assert nearest_class_mean_accuracy(noise, **SETTINGS) == nearest_pixel_accuracy(noise, **SETTINGS)
    two_shots = {**SETTINGS, "shot": 2}
    assert nearest_class_mean_accuracy(noise, **two_shots) != nearest_pixel_accuracy(noise, **two_shots)


def test_a_single_task_has_an_interval_of_no_width(noise):
    accuracy, half_width = nearest_pixel_accuracy(noise, **{**SETTINGS, "tasks": 1})
    assert 0 <= accuracy <= 1 and half_width == 0.0


def test_too_few_pictures(numbered_bank):
    with pytest.raises(UserError, match="only 3 of its 5 classes"):
        nearest_pixel_accuracy(numbered_bank, **{**SETTINGS, "way": 4, "query_shot": 5})
