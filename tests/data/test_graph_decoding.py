"""The graph's decoder against Pillow's, which training uses: the same grey values, bit for bit."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_mamlpp.data.graph_decoding import decode_encoded
from tf_mamlpp.data.images import decode_file

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.integers(0, 256, (21, 33, 3), np.uint8)
ALPHA = np.concatenate([NOISE, GENERATOR.integers(0, 256, (21, 33, 1), np.uint8)], -1)
DEEP = GENERATOR.integers(0, 65536, (21, 33)).astype(np.uint16)


def save(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def grey_png(bits, height=7, width=13):
    """A PNG of few bits a sample, which Pillow reads but does not write."""
    rows = b""
    for row in GENERATOR.integers(0, 2**bits, (height, width)):
        line = "".join(f"{value:0{bits}b}" for value in row)
        line += "0" * (-len(line) % 8)
        rows += b"\0" + bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RGB, GREY = Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])
PALETTE = RGB.quantize(32)
FILES = {
    "png rgb": save(RGB, "PNG"),
    "png grey": save(GREY, "PNG"),
    "png one bit": save(GREY.convert("1"), "PNG"),
    "png two bits": grey_png(2),
    "png four bits": grey_png(4),
    "png sixteen bits": save(Image.fromarray(DEEP), "PNG"),
    "png palette": save(PALETTE, "PNG"),
    "png palette of four": save(RGB.quantize(4), "PNG", bits=2),
    "png palette, one transparent": save(PALETTE, "PNG", transparency=3),
    "png grey, one transparent": save(GREY, "PNG", transparency=int(NOISE[0, 0, 0])),
    "png alpha": save(Image.fromarray(ALPHA), "PNG"),
    "png grey alpha": save(Image.fromarray(ALPHA).convert("LA"), "PNG"),
    "jpeg": save(RGB, "JPEG", quality=60),
    "jpeg grey": save(GREY, "JPEG"),
    "jpeg 4:4:4": save(RGB, "JPEG", subsampling=0, quality=95),
    "jpeg progressive": save(RGB, "JPEG", progressive=True),
    "jpeg cmyk": save(RGB.convert("CMYK"), "JPEG"),
}


@pytest.fixture(scope="module")
def decode():
    """Decodes in a graph that is traced once for each number of channels."""
    signature = [tf.TensorSpec((), tf.string)]
    return {c: tf.function(lambda s, c=c: decode_encoded(s, c), signature, autograph=False) for c in (1, 3)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_equals_pillow(decode, name, channels):
    decoded = decode[channels](tf.constant(FILES[name]))
    assert decoded.dtype == tf.float32
    np.testing.assert_array_equal(decoded, decode_file(FILES[name], channels))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no picture at all"])
def test_other_bytes_are_refused_by_name(decode, content):
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither JPEG nor PNG"):
        decode[1](tf.constant(content))


@pytest.mark.parametrize("name", ["png rgb", "jpeg"])
@pytest.mark.parametrize("length", [4, 30, 200])
def test_a_picture_cut_short_is_refused(decode, name, length):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[1](tf.constant(FILES[name][:length]))
