import time

import numpy as np
import pytest

from tf_mamlpp.data import load_banks
from tf_mamlpp.data.sources import glyphs


@pytest.fixture(scope="module")
def banks(shared_cache):
    started = time.monotonic()
    loaded = load_banks("glyphs", cache_dir=shared_cache)
    assert time.monotonic() - started < 60  # about 4 s on one idle core
    return loaded


def test_sizes(banks):
    assert len(banks["train"].class_names) > 400
    assert len(banks["validation"].class_names) >= 40
    assert len(banks["test"].class_names) >= 60
    for bank in banks.values():
        assert bank.images.shape == (20 * len(bank.class_names), 28, 28, 1)
        assert (np.diff(bank.offsets) == 20).all()


def test_splits_share_no_writing_system(banks):
    systems = {split: {name.split("/")[0] for name in bank.class_names} for split, bank in banks.items()}
    assert systems == {
        "train": {"Latin", "Cyrillic", "Canadian"},
        "validation": {"Greek", "Hebrew", "Lao"},
        "test": {"Armenian", "Georgian", "Arabic"},
    }


def test_dark_ink_on_white_none_empty_none_clipped(banks):
    for bank in banks.values():
        ink = 255 - bank.images[..., 0].astype(np.int64)
        assert ink.sum(axis=(1, 2)).min() > 20 * 255
        assert ink.mean() / 255 < 0.3
        edges = [ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]]
        assert max(edge.max() for edge in edges) == 0


def test_twins_are_one_class(banks):
    names = {name.split("/")[1] for bank in banks.values() for name in bank.class_names}
    assert "LATIN CAPITAL LETTER A" in names and "CYRILLIC CAPITAL LETTER ZHE" in names
    for twin in ("GREEK CAPITAL LETTER ALPHA", "CYRILLIC CAPITAL LETTER A", "LATIN SMALL LETTER O"):
        assert twin not in names


def test_no_two_pictures_are_equal(banks):
    images = np.concatenate([bank.images for bank in banks.values()])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


@pytest.mark.slow
def test_three_faces_or_more_and_pictures_drawn_again_are_the_same(banks):
    characters = glyphs._characters()
    assert min(len(outlines) for split in characters.values() for outlines in split.values()) >= 3
    test = dict(list(characters["test"].items())[:5])
    again = np.stack([image for _, _, image in glyphs._pictures(test).read()])
    np.testing.assert_array_equal(banks["test"].images[: len(again), ..., 0], again)
