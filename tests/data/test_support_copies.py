"""Copies of support pictures: the task stays the same, and only the copies are changed."""

import numpy as np
import pytest

from tf_mamlpp.data import ImageBank, SupportCopies, drawn_rows, episodes, sample_task
from tf_mamlpp.data.augmentation import Augmentation
from tf_mamlpp.errors import UserError

SHAPE = {"way": 2, "shot": 2, "query_shot": 1}


@pytest.fixture
def noise_bank():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    return ImageBank(images, np.array([0, 5, 10, 15, 20]), tuple("abcd"), "noise test")


def stream(bank, **settings):
    batches = episodes(bank, split="test", tasks=3, count=2, mean=(0.0,), std=(1 / 255,), **SHAPE, **settings)
    return list(batches.as_numpy_iterator())


def test_the_task_is_the_one_without_copies(noise_bank):
    copies = SupportCopies(3, Augmentation(crop_padding=2))
    for with_copies, without in zip(stream(noise_bank, support_copies=copies), stream(noise_bank), strict=True):
        assert with_copies["support_images"].shape == (3, 2 * 2 * 4, 8, 8, 1)
        np.testing.assert_array_equal(with_copies["support_images"][:, ::4], without["support_images"])
        np.testing.assert_array_equal(with_copies["support_labels"], without["support_labels"].repeat(4, axis=1))
        for key in ("query_images", "query_labels"):
            np.testing.assert_array_equal(with_copies[key], without[key])


def test_copies_are_shifted_and_depend_on_the_number_of_the_task_alone(noise_bank):
    copies = SupportCopies(3, Augmentation(crop_padding=2))
    first, second = stream(noise_bank, support_copies=copies), stream(noise_bank, support_copies=copies)
    np.testing.assert_array_equal(first[1]["support_images"], second[1]["support_images"])
    pictures = first[0]["support_images"][0].reshape(4, 4, 8, 8)
    assert len({picture.tobytes() for picture in pictures[0]}) > 1
    padded = np.pad(pictures[0, 0], 2, mode="reflect")
    shifts = [padded[y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    assert all(any(np.array_equal(copy, shift) for shift in shifts) for copy in pictures[0, 1:])


def test_the_rows_are_those_of_the_task(noise_bank):
    for index in range(20):
        place = {**SHAPE, "seed": 3, "split": "test", "index": index}
        rows, task = drawn_rows(noise_bank, **place), sample_task(noise_bank, **place)
        assert rows.shape == (2, 3)
        np.testing.assert_array_equal(noise_bank.images[rows[:, :2].ravel()], task["support_images"])
        np.testing.assert_array_equal(noise_bank.images[rows[:, 2:].ravel()], task["query_images"])


@pytest.mark.parametrize(
    ("count", "augmentation", "message"),
    [(0, Augmentation(flip=True), "count is 0"), (2, Augmentation(), "changes nothing")],
)
def test_what_makes_no_copies(count, augmentation, message):
    with pytest.raises(UserError, match=message):
        SupportCopies(count, augmentation)


def test_what_the_pictures_cannot_have(noise_bank):
    with pytest.raises(UserError, match="saturation has no use with pictures of one channel"):
        stream(noise_bank, support_copies=SupportCopies(1, Augmentation(saturation=0.5)))
