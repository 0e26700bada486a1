"""Batches of labelled pictures: every picture once an epoch, the same ones when a run is resumed."""

import dataclasses
import itertools

import numpy as np
import pytest

from tf_mamlpp.data.augmentation import Augmentation
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.picture_batches import picture_batches, updates_per_epoch
from tf_mamlpp.errors import UserError


def as_pixels(bank):
    """The bank with pixels as they are, 0..255."""
    return bank.with_inputs(dataclasses.replace(bank.inputs, mean=(0.0,), std=(1 / 255,)))


def rows(bank, count, **settings):
    """The rows and labels of the first batches of the numbered bank, whose pictures are their own row numbers."""
    batches = picture_batches(as_pixels(bank), **{"batch": 8, "parts": 2, **settings})
    elements = list(itertools.islice(batches.as_numpy_iterator(), count))
    images = np.array([e["support_images"][..., 0, 0, 0] for e in elements])
    return np.rint(images).astype(int), np.array([e["support_labels"] for e in elements])


def test_each_epoch_has_each_picture_at_most_once_in_another_order(numbered_bank):
    per_epoch = updates_per_epoch(numbered_bank, 8)
    found, labels = rows(numbered_bank, 20 * per_epoch)
    assert found.shape == (20 * per_epoch, 2, 4)
    np.testing.assert_array_equal(labels, np.searchsorted(numbered_bank.offsets, found, side="right") - 1)
    epochs = found.reshape(20, -1)
    assert all(len(set(epoch)) == epoch.size == 8 * per_epoch for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert set(epochs.ravel()) == set(range(len(numbered_bank.images)))  # other pictures are left out each time


def test_it_resumes_at_any_batch(numbered_bank):
    whole, _ = rows(numbered_bank, 12)
    for start in (1, 3, 7):
        np.testing.assert_array_equal(rows(numbered_bank, 12 - start, start=start)[0], whole[start:])
    assert (rows(numbered_bank, 12, seed=1)[0] != whole).any()


def test_parts_are_neighbours_of_one_order(numbered_bank):
    np.testing.assert_array_equal(rows(numbered_bank, 6)[0].ravel(), rows(numbered_bank, 6, parts=4)[0].ravel())


def test_pictures_are_augmented_anew_each_time(numbered_bank):
    brightness = Augmentation(brightness=0.9)
    plain, bright = (rows(numbered_bank, 9, augmentation=a)[0] for a in (Augmentation(), brightness))
    np.testing.assert_array_equal(plain, rows(numbered_bank, 9)[0])
    assert (np.abs(bright - plain) <= 0.9 * plain + 1).all() and (bright != plain).mean() > 0.5
    np.testing.assert_array_equal(rows(numbered_bank, 4, augmentation=brightness, start=5)[0], bright[5:])


def test_a_turned_class_is_a_class_of_its_own():
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] + np.array([[0, 50], [100, 150]], np.uint8)[..., None]
    bank = ImageBank(images, np.array([0, 20, 40]), ("a", "b"), "corners train")
    settings = {"batch": 8, "parts": 2, "rotations": True}
    seen = set()
    for element in itertools.islice(picture_batches(as_pixels(bank), **settings).as_numpy_iterator(), 40):
        for picture, label in zip(
            element["support_images"].reshape(-1, 2, 2), element["support_labels"].ravel(), strict=True
        ):
            row, turns = int(np.rint(picture.min())), label // 2
            np.testing.assert_allclose(picture, np.rot90(images[row, ..., 0], turns), rtol=1e-5)
            assert label % 2 == row // 20
            seen.add((row // 20, turns))
    assert len(seen) == 8


def test_fewer_pictures_than_a_batch(numbered_bank):
    with pytest.raises(UserError, match="has 30 pictures, fewer than a batch of 31"):
        updates_per_epoch(numbered_bank, 31)
