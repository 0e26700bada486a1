"""Damaged and hostile picture files: a picture, or one UserError that names the file; never a hang."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from PIL import Image

from tf_mamlpp.data.graph_decoding import decode_encoded
from tf_mamlpp.data.images import MOST_PIXELS, decode_file
from tf_mamlpp.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO"]


def encoded(form, image=None):
    buffer = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(buffer, form)
    return buffer.getvalue()


def png_of(width, height, rows=b""):
    """A PNG that declares a size, whatever its rows are."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


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
def test_damaged_files(fuzz, no_hang, form):
    whole = encoded(form)

    def check(damages, length):
        a_picture_or_one_error(damaged(whole, damages, length))

    fuzz(check, 60, damages=damages, length=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]))


@pytest.mark.filterwarnings("ignore")
def test_any_bytes(fuzz, no_hang):
    starts = [encoded(form)[:16] for form in FORMATS] + [b"", b"8BPS\0\1", b"II*\0", b"\0\0\1\0", b"qoif", b"\x93NUMPY"]

    def check(start, rest):
        a_picture_or_one_error(start + rest)

    fuzz(check, 150, start=st.sampled_from(starts), rest=st.binary(max_size=80))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(1 << 13, (1 << 13) + 1), (1, MOST_PIXELS + 1), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_declared_sizes_that_no_picture_has(size):
    with pytest.raises(UserError, match="cat.png: cannot be read as a picture"):
        decode_file(png_of(*size), 1, "cat.png")


def test_a_picture_that_is_a_program_is_not_run(tmp_path, monkeypatch):
    program = encoded("EPS", Image.fromarray(PIXELS))
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
def test_damaged_files_in_a_graph(fuzz, no_hang, decode, form):
    whole = encoded(form)

    def check(damages, length):
        try:
            image = decode(tf.constant(damaged(whole, damages, length)))
        except tf.errors.InvalidArgumentError:
            return
        assert image.shape[-1] == 3 and tf.size(image) > 0

    fuzz(check, 100, damages=damages, length=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]))


@pytest.mark.parametrize("size", [(1 << 13, (1 << 13) + 1), (1, MOST_PIXELS + 1), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_declared_sizes_that_no_picture_has_in_a_graph(decode, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(png_of(*size)))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_jpeg_of_a_declared_size_that_no_picture_has(decode):
    content = bytearray(encoded("JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\x7f\xff\x7f\xff"
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        decode(tf.constant(bytes(content)))
    with pytest.raises(UserError, match="cat.jpg: cannot be read as a picture"):
        decode_file(bytes(content), 3, "cat.jpg")
