import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tf_mamlpp.data import check_bank, episodes, sample_task
from tf_mamlpp.errors import UserError

SHAPE = {"way": 3, "shot": 1, "query_shot": 2}


def draw(bank, index=0, **changes):
    return sample_task(bank, **{**SHAPE, "seed": 0, "split": "train", "rotations": False, **changes}, index=index)


def test_shapes_and_types(numbered_bank):
    task = draw(numbered_bank)
    assert {key: (value.shape, value.dtype) for key, value in task.items()} == {
        "support_images": ((3, 4, 4, 1), np.uint8),
        "support_labels": ((3,), np.int32),
        "query_images": ((6, 4, 4, 1), np.uint8),
        "query_labels": ((6,), np.int32),
    }
    assert task["query_labels"].tolist() == [0, 0, 1, 1, 2, 2]


def test_no_class_twice_support_and_query_disjoint_and_labels_right(numbered_bank):
    for index in range(300):
        task = draw(numbered_bank, index)
        support, query = (task[f"{part}_images"][:, 0, 0, 0] for part in ("support", "query"))
        classes = np.searchsorted(numbered_bank.offsets, support, side="right")
        assert len(set(classes)) == 3
        assert len({*support, *query}) == 9
        np.testing.assert_array_equal(np.searchsorted(numbered_bank.offsets, query, side="right"), classes.repeat(2))


def test_every_class_and_picture_is_drawn_about_equally_often(numbered_bank):
    rows = np.concatenate([draw(numbered_bank, i)["support_images"][:, 0, 0, 0] for i in range(4000)])
    counts = np.bincount(rows, minlength=30)
    expected = 4000 * 3 / 5 / np.repeat(np.diff(numbered_bank.offsets), np.diff(numbered_bank.offsets))
    assert ((counts - expected) ** 2 / expected).sum() < 70  # chi-square of 29 degrees: 1e-4 lie above 64


def test_whole_classes_and_all_classes_can_be_drawn(numbered_bank):
    task = draw(numbered_bank, way=5, shot=1, query_shot=3)
    assert len(task["query_labels"]) == 15


def test_pure_function_of_seed_split_and_index(numbered_bank):
    reference = draw(numbered_bank, 7)
    for key, value in draw(numbered_bank, 7).items():
        np.testing.assert_array_equal(value, reference[key])
    for other in (
        draw(numbered_bank, 8),
        draw(numbered_bank, 7, seed=1),
        draw(numbered_bank, 7, split="test"),
    ):
        assert (other["query_images"] != reference["query_images"]).any()


PROGRAM = """
import zlib, numpy as np
from tf_mamlpp.data import ImageBank, sample_task
images = np.arange(6400, dtype=np.uint16).view(np.uint8).reshape(200, 8, 8, 1)
bank = ImageBank(images, np.arange(0, 201, 10), tuple(map(str, range(20))), "made train")
tasks = [sample_task(bank, way=5, shot=1, query_shot=3, seed=3, split="validation", index=i, rotations=True)
         for i in range(20)]
print(zlib.crc32(b"".join(task[key].tobytes() for task in tasks for key in sorted(task))))
"""


@pytest.mark.slow
def test_same_tasks_in_other_processes_and_versions():
    environment = {**os.environ, "PYTHONHASHSEED": "123", "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    # Pinned: another number means that every published result would be on other tasks.
    assert int(run.stdout) == 3326346498


def test_rotations_are_by_class_and_all_four_occur(numbered_bank):
    corner = np.zeros_like(numbered_bank.images)
    corner[:, 0, 0] = 255  # a mark in one corner tells the turn
    bank = replace(numbered_bank, images=corner)
    seen = set()
    for index in range(40):
        task = draw(bank, index, rotations=True)
        support = task["support_images"][..., 0].reshape(3, 16).argmax(axis=1)
        query = task["query_images"][..., 0].reshape(6, 16).argmax(axis=1)
        np.testing.assert_array_equal(query, support.repeat(2))
        seen.update(support.tolist())
    assert seen == {0, 3, 12, 15}
    assert (draw(bank)["support_images"][:, 0, 0] == 255).all()
    assert (bank.images[:, 0, 0] == 255).all()  # the bank itself is never turned


def test_too_few_classes_or_pictures_are_named(numbered_bank):
    check_bank(numbered_bank, 5, 1, 3)
    with pytest.raises(UserError, match="numbered train: has 5 classes, fewer than way=6"):
        check_bank(numbered_bank, 6, 1, 1)
    with pytest.raises(UserError, match=r"numbered train: only 4 of its 5 classes have .* = 1 \+ 4 pictures"):
        check_bank(numbered_bank, 5, 1, 4)
    with pytest.raises(UserError, match="only 4 of its 5 classes"):
        episodes(numbered_bank, way=5, shot=1, query_shot=4, tasks=1)


def test_classes_with_too_few_pictures_are_left_out_and_counted(numbered_bank):
    with pytest.warns(UserWarning, match=r"numbered train: 2 of its 5 classes have .* left out; a has 4$"):
        episodes(numbered_bank, way=3, shot=1, query_shot=5, tasks=1)
    first_left = numbered_bank.offsets[2]
    seen = set()
    for index in range(50):
        task = draw(numbered_bank, index, way=2, query_shot=5)
        support, query = (task[f"{part}_images"][:, 0, 0, 0] for part in ("support", "query"))
        assert len({*support, *query}) == 12
        seen.update(support)
    assert min(seen) >= first_left and len(seen) > 15


def test_episodes_hold_the_sampled_tasks_normalised(numbered_bank):
    dataset = episodes(numbered_bank, **SHAPE, tasks=2, count=3, mean=[0.25], std=[0.5])
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == 3 and int(dataset.cardinality()) == 3
    for step, batch in enumerate(batches):
        for position in range(2):
            task = draw(numbered_bank, 2 * step + position)
            expected = (task["query_images"] / 255.0 - 0.25) / 0.5
            np.testing.assert_allclose(batch["query_images"][position], expected, atol=1e-6)
            np.testing.assert_array_equal(batch["support_labels"][position], task["support_labels"])


def test_episodes_have_static_shapes_and_no_end(numbered_bank):
    dataset = episodes({"train": numbered_bank}, **SHAPE, tasks=2)
    shapes = {key: tuple(spec.shape) for key, spec in dataset.element_spec.items()}
    assert shapes == {
        "support_images": (2, 3, 4, 4, 1),
        "support_labels": (2, 3),
        "query_images": (2, 6, 4, 4, 1),
        "query_labels": (2, 6),
    }
    assert int(dataset.cardinality()) == -1


def test_start_resumes_the_same_stream(numbered_bank):
    whole = list(episodes(numbered_bank, **SHAPE, tasks=2, count=5).as_numpy_iterator())
    rest = list(episodes(numbered_bank, **SHAPE, tasks=2, start=3, count=2).as_numpy_iterator())
    for one, other in zip(whole[3:], rest, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize(
    "source, split, turned",
    [
        ("omniglot", "train", True),
        ("tfds:omniglot", "train", True),
        ("omniglot", "test", False),
        ("glyphs", "train", False),
    ],
)
def test_only_training_tasks_of_omniglot_are_turned(numbered_bank, source, split, turned):
    corner = np.full_like(numbered_bank.images, 255)
    corner[:, 0, 0] = 0
    bank = replace(numbered_bank, images=corner, name=f"{source} {split}")
    batch = next(episodes(bank, split=split, **SHAPE, tasks=20).as_numpy_iterator())
    marks = batch["support_images"][..., 0].reshape(-1, 16)
    assert sorted(np.unique(marks)) == [0, 1]  # ink is 1 and paper 0
    assert (len(set(marks.argmax(axis=1))) > 1) == turned


def test_rotations_need_square_pictures(numbered_bank):
    oblong = replace(numbered_bank, images=numbered_bank.images[:, :3])
    with pytest.raises(UserError, match="square"):
        episodes(oblong, **SHAPE, tasks=1, rotations=True)


def test_unknown_split_is_named(numbered_bank):
    with pytest.raises(UserError, match="unknown split 'tset'"):
        episodes({"train": numbered_bank}, split="tset", **SHAPE, tasks=1)


def rows_of(task, part):
    return task[f"{part}_images"][:, 0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_unknown_pictures_are_of_other_classes_in_turn(numbered_bank, count):
    for index in range(50):
        task = draw(numbered_bank, index, unknown=count)
        of = [
            np.searchsorted(numbered_bank.offsets, rows_of(task, part), side="right") for part in ("support", "unknown")
        ]
        assert not set(of[0]) & set(of[1]) and len(of[1]) == count
        counts = np.unique(of[1], return_counts=True)[1]
        assert np.ptp(counts) <= 1 and len(counts) == min(count, 2)  # five classes, of which the task has three
        for label in set(of[1]):
            rows = rows_of(task, "unknown")[of[1] == label]
            size = np.diff(numbered_bank.offsets)[label - 1]
            assert len(set(rows)) == min(len(rows), size), "a picture came twice before all had come"


def test_the_rest_of_a_task_does_not_depend_on_unknown_pictures(numbered_bank):
    for index in range(20):
        plain, more = (draw(numbered_bank, index, rotations=True, unknown=n) for n in (0, 4))
        assert "unknown_images" not in plain
        for key, value in plain.items():
            np.testing.assert_array_equal(more[key], value)
    again = draw(numbered_bank, 19, rotations=True, unknown=4)
    np.testing.assert_array_equal(again["unknown_images"], more["unknown_images"])


def test_episodes_with_unknown_pictures(numbered_bank):
    batch = next(
        iter(episodes(numbered_bank, **SHAPE, tasks=2, seed=3, rotations=False, unknown=4, mean=(0,), std=(1,)))
    )
    assert batch["unknown_images"].shape == (2, 4, 4, 4, 1)
    task = draw(numbered_bank, 1, seed=3, unknown=4)
    np.testing.assert_allclose(batch["unknown_images"][1], task["unknown_images"] / 255, rtol=1e-6)


def test_no_class_is_left_to_be_unknown(numbered_bank):
    with pytest.raises(UserError, match="numbered train: has no class beside the 5 of a task"):
        episodes(numbered_bank, way=5, shot=1, query_shot=1, tasks=1, unknown=1)
