import numpy as np
import pytest

from tf_mamlpp.data import bulk_decoding, resize
from tf_mamlpp.data.bulk_decoding import decoded_chunks
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
ROWS = (2, 0, 3, 1, 4)  # they may come in any order


def test_files_and_arrays_are_brought_to_one_size_and_kind(png):
    contents = [png(IMAGES[0]), IMAGES[1], png(np.stack([IMAGES[2]] * 3, axis=-1))]
    listed = Pictures(("a",), (3,), lambda: zip(range(3), "xyz", contents, strict=True))
    ((rows, names, pixels),) = decoded_chunks(listed, (8, 6), channels=3)
    assert (rows, names) == ([0, 1, 2], ["x", "y", "z"]) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.repeat(resize(IMAGES[:3, ..., None], (8, 6)), 3, axis=-1))


def test_a_corrupt_picture_is_named():
    listed = Pictures(("a",), (1,), lambda: iter([(0, "ants/1.png", b"no picture")]))
    with pytest.raises(UserError, match="ants/1.png: cannot be read as a picture"):
        list(decoded_chunks(listed, (8, 8), channels=1))


def test_pictures_of_one_size_are_resized_together_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(bulk_decoding, "_CHUNK", 3 * IMAGES[0].nbytes)
    mixed = [image.reshape(10, 40) if row == 3 else image for row, image in zip(ROWS, IMAGES, strict=True)]
    chunks = list(bulk_decoding._stacks(Pictures(("a",), (5,), lambda: zip(ROWS, "vwxyz", mixed, strict=True)), 1))
    assert [(rows, "".join(names)) for rows, names, _ in chunks] == [([2, 0], "vw"), ([3], "x"), ([1, 4], "yz")]
    assert [images.shape for _, _, images in chunks] == [(2, 20, 20, 1), (1, 10, 40, 1), (2, 20, 20, 1)]
    np.testing.assert_array_equal(np.concatenate([images.ravel() for _, _, images in chunks]), IMAGES.ravel())
