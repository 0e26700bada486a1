import re
from pathlib import Path

import numpy as np
import pytest

from tf_mamlpp.data import ImageBank, build_or_load, cached_bank
from tf_mamlpp.data.sources.listing import Pictures


@pytest.fixture
def mapped():
    """A bank from the cache: four pictures of random grey values."""
    greys = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    listed = Pictures(("a", "b"), (2, 2), lambda: zip(range(4), "wxyz", greys, strict=True))
    return build_or_load("key", lambda: listed, name="made train", image_size=(8, 8), channels=1)


def test_source_is_the_name_without_the_split():
    bank = ImageBank(np.zeros((1, 2, 2, 1), np.uint8), np.array([0, 1]), ("a",), "tfds:some/set:1.0.0 validation")
    assert bank.source == "tfds:some/set:1.0.0"


@pytest.mark.parametrize("resident", [0, 1 << 20])
def test_take_copies_rows_and_leaves_the_bank_as_it_was(mapped, resident, monkeypatch):
    monkeypatch.setattr(cached_bank, "RESIDENT", resident)
    bank = mapped
    taken = bank.take(np.array([[3, 0], [1, 1]]))
    np.testing.assert_array_equal(taken, bank.images[[[3, 0], [1, 1]]])
    taken[:] = 0
    assert bank.images.any() and bank.images.base is not None


def test_memory_does_not_grow_with_the_pictures_seen():
    pictures = np.random.default_rng(0).integers(0, 256, (400, 256, 256), dtype=np.uint8)  # 26 MB
    bank = build_or_load(
        "key",
        lambda: Pictures(("a",), (400,), lambda: ((i, str(i), p) for i, p in enumerate(pictures))),
        name="large train",
        image_size=(256, 256),
        channels=1,
    )
    before = _resident("RssFile") + _resident("RssAnon")
    for row in range(400):
        assert (bank.take(np.array([row]))[0, ..., 0] == pictures[row]).all()
    assert _resident("RssFile") + _resident("RssAnon") - before < 8e6


def _resident(kind):
    """Bytes of this process's resident memory that are of a kind, as Linux counts them."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's /proc to see resident memory")
    return int(re.search(rf"{kind}:\s+(\d+) kB", status.read_text())[1]) * 1024
