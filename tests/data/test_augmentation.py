"""Random crops, flips and colours against pictures changed by hand."""

import numpy as np
import pytest

from tf_mamlpp.data.augmentation import Augmentation, augment
from tf_mamlpp.data.task_stream import task_bits
from tf_mamlpp.errors import UserError

ALL = Augmentation(crop_padding=2, flip=True, brightness=0.4, contrast=0.5, saturation=0.6)


def bits(index=0):
    return task_bits(0, "train", index)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 6, 3), np.uint8)


def draws(index, count):
    """What `augment` draws: numbers from 0 to 1 for the two moves, the flip and the three colours."""
    return (bits(index).random_raw(6 * count) / 2.0**64).reshape(6, count)


def by_hand(image, draw, augmentation):
    a, (height, width, _) = augmentation, image.shape
    padding = [(a.crop_padding, a.crop_padding)] * 2 + [(0, 0)]
    padded = np.pad(image, padding, mode="reflect")
    down, right = (int(draw[i] * (2 * a.crop_padding + 1)) for i in (0, 1))
    image = padded[down : down + height, right : right + width].astype(np.float64)
    if a.flip and draw[2] < 0.5:
        image = image[:, ::-1]
    b, c, s = 1 + np.array([a.brightness, a.contrast, a.saturation]) * (2 * draw[3:] - 1)
    grey = [0.299, 0.587, 0.114]
    image = image * b
    image = c * image + (1 - c) * (image @ grey).mean()
    image = s * image + (1 - s) * (image @ grey)[..., np.newaxis]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "augmentation",
    [
        ALL,
        Augmentation(crop_padding=2),
        Augmentation(flip=True),
        Augmentation(brightness=1.0),
        Augmentation(contrast=1.0),
    ],
)
def test_pictures_changed_by_hand(images, augmentation):
    for index in range(20):
        found = augment(images, augmentation, bits(index))
        expected = [by_hand(x, d, augmentation) for x, d in zip(images, draws(index, len(images)).T, strict=True)]
        assert found.dtype == np.uint8
        # One grey value off where float32 rounds a half the other way.
        assert np.abs(found.astype(int) - expected).max() <= (
            1 if augmentation.brightness or augmentation.contrast else 0
        )


def test_every_move_and_both_sides_are_drawn():
    image = np.arange(49, dtype=np.uint8).reshape(1, 7, 7, 1)
    augmentation = Augmentation(crop_padding=1, flip=True)
    found = {augment(image, augmentation, bits(index)).tobytes() for index in range(300)}
    assert len(found) == 3 * 3 * 2


def test_a_grey_picture_keeps_one_channel():
    image = np.full((1, 4, 4, 1), 100, np.uint8)
    found = augment(image, Augmentation(brightness=0.5), bits(3))
    assert found.shape == image.shape and found[0, 0, 0, 0] == round(100 * (1 + 0.5 * (2 * draws(3, 1)[3, 0] - 1)))


def test_nothing_asked_for_changes_nothing(images):
    assert not Augmentation().active and ALL.active
    np.testing.assert_array_equal(augment(images, Augmentation(), bits()), images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrast": 1.1}, "contrast is 1.1: it must be from 0 to 1"),
        ({"brightness": -0.1}, "brightness is -0.1: it must be positive"),
        ({"crop_padding": 1.5}, "crop_padding is of type int"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**settings)


def test_what_pictures_cannot_have():
    with pytest.raises(UserError, match="crop_padding is 8: it must be less than the 8 pixels a side"):
        Augmentation(crop_padding=8).check_pictures((9, 8), 1)
    with pytest.raises(UserError, match="saturation has no use with pictures of one channel"):
        Augmentation(saturation=0.1).check_pictures((8, 8), 1)
    Augmentation(crop_padding=7, saturation=0.1).check_pictures((8, 8), 3)
