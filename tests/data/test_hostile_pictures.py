"""Damaged and hostile picture files: a picture, or one UserError that names the file; never a hang."""

import os
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from PIL import Image

from tf_mamlpp.data.graph_decoding import decode_encoded
from tf_mamlpp.data.images import MOST_PIXELS, decode_file
from tf_mamlpp.errors import UserError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO"]


@pytest.fixture(scope="session")
def grey_png(raw_png):
    """A grey PNG that declares a size, whatever its rows are: grey_png(width, height, rows)."""
    return lambda width, height, rows=b"": raw_png(width, height, 8, 0, rows)


def a_picture_or_one_error(content, name="cat/one.png"):
    try:
        image = decode_file(content, 3, name)
    except UserError as error:
        assert name in str(error)
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3 and image.size


damages = st.lists(st.tuples(st.integers(0, 10**4), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3)


def damaged(content, damages, length):
    """The content with bytes written over it here and there, and cut to a part of its length."""
    content = bytearray(content)
    for place, new in damages:
        start = place % len(content)
        content[start : start + len(new)] = new
    return bytes(content[: max(1, round(length * len(content)))])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files(encoded, fuzz, no_hang, form):
    whole = encoded(PICTURE, form)

    def check(damages, length):
        a_picture_or_one_error(damaged(whole, damages, length))

    fuzz(check, 60, damages=damages, length=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]))


@pytest.mark.filterwarnings("ignore")
def test_any_bytes(encoded, fuzz, no_hang):
    starts = [encoded(PICTURE, form)[:16] for form in FORMATS]
    starts += [b"", b"8BPS\0\1", b"II*\0", b"\0\0\1\0", b"qoif", b"\x93NUMPY"]

    def check(start, rest):
        a_picture_or_one_error(start + rest)

    fuzz(check, 150, start=st.sampled_from(starts), rest=st.binary(max_size=80))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def icon_of(*pictures):
    """An icon that says 16 x 16 of each of its pictures."""
    entries, offset = b"", 6 + 16 * len(pictures)
    for content in pictures:
        entries += struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(content), offset)
        offset += len(content)
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + b"".join(pictures)


def bmp_of(width, height):
    """A BMP in an icon; run-length coded, so that a few bytes may stand for all its pixels."""
    return struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 8, 1, 0, 0, 0, 0, 0) + b"\0" * 1024 + b"\0\1"


SIDE = (1 << 13) + 1


@pytest.mark.parametrize(
    "picture",
    [None, bmp_of(SIDE, SIDE), bmp_of(SIDE, -SIDE), struct.pack("<IHHHH", 12, 60000, 60000, 1, 8)],
    ids=["png", "bmp", "bmp from its top", "bmp of an old kind"],
)
@pytest.mark.parametrize("before", [0, 1])
def test_a_large_picture_in_an_icon_is_refused_before_it_is_decoded(grey_png, picture, before, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded"))
    content = icon_of(*[grey_png(16, 16)] * before, picture or grey_png(SIDE, SIDE))
    with pytest.raises(UserError, match=r"a.ico: .* x \d+ pixels are too many"):
        decode_file(content, 3, "a.ico")


def test_an_icon_whose_list_is_wrong_has_the_size_of_its_picture(grey_png):
    rows = b"".join(b"\0" + bytes([90] * 40) for _ in range(30))
    with pytest.warns(UserWarning, match="not the expected size"):
        assert decode_file(icon_of(grey_png(40, 30, rows)), 1, "a.ico").shape == (30, 40, 1)


def test_containers_that_do_not_tell_their_sizes_are_refused(encoded):
    content = encoded(Image.new("RGBA", (16, 16)), "ICNS")
    with pytest.raises(UserError, match="ICNS is no usual kind of picture"):
        decode_file(content, 3, "a.png")


@pytest.mark.parametrize("size", [(1 << 13, (1 << 13) + 1), (1, MOST_PIXELS + 1), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_declared_sizes_that_no_picture_has(grey_png, size):
    with pytest.raises(UserError, match="cat.png: cannot be read as a picture"):
        decode_file(grey_png(*size), 1, "cat.png")


def test_a_picture_that_is_a_program_is_not_run(encoded, tmp_path, monkeypatch):
    program = encoded(PICTURE, "EPS")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    with pytest.raises(UserError, match="cat.png.*PostScript"):
        decode_file(program, 3, "cat.png")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder", "missing", "loop", "too large"])
def test_what_is_no_file(tmp_path, no_hang, kind):
    file = tmp_path / "cat.png"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        file.symlink_to("pipe")
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to("cat.png")
    elif kind == "too large":
        with open(file, "wb") as opened:
            opened.truncate(1 << 42)
    with pytest.raises(UserError, match="cat.png"):
        decode_file(file, 3)


# --- In the graph of an exported model -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decode():
    return tf.function(lambda s: decode_encoded(s, 3), [tf.TensorSpec((), tf.string)], autograph=False)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_damaged_files_in_a_graph(encoded, fuzz, no_hang, decode, form):
    whole = encoded(PICTURE, form)

    def check(damages, length):
        try:
            image = decode(tf.constant(damaged(whole, damages, length)))
        except tf.errors.InvalidArgumentError:
            return
        assert image.shape[-1] == 3 and tf.size(image) > 0

    fuzz(check, 100, damages=damages, length=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]))


@pytest.mark.parametrize("size", [(1 << 13, (1 << 13) + 1), (1, MOST_PIXELS + 1), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_declared_sizes_that_no_picture_has_in_a_graph(grey_png, decode, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(grey_png(*size)))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_jpeg_of_a_declared_size_that_no_picture_has(encoded, decode):
    content = bytearray(encoded(PICTURE, "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\x7f\xff\x7f\xff"
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        decode(tf.constant(bytes(content)))
    with pytest.raises(UserError, match="cat.jpg: cannot be read as a picture"):
        decode_file(bytes(content), 3, "cat.jpg")
