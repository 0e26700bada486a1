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


SAMPLES = {
    0: 1,
    2: 3,
    3: 1,
    4: 2,
    6: 4,
}  # of a pixel, for each of PNG's kinds: grey, RGB, palette, grey and RGB with alpha


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(kind, bits, transparency=None, before=b"", colours=None, height=7, width=13):
    """A PNG of any kind and number of bits, most of which Pillow reads but does not write."""
    colours = colours or 2**bits
    rows = b""
    for row in GENERATOR.integers(0, colours, (height, width * SAMPLES[kind])):
        line = "".join(f"{value:0{bits}b}" for value in row)
        line += "0" * (-len(line) % 8)
        rows += b"\0" + bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)) + before
    palette = chunk(b"PLTE", GENERATOR.integers(0, 256, 3 * colours, np.uint8).tobytes()) if kind == 3 else b""
    alpha = b"" if transparency is None else chunk(b"tRNS", transparency)
    pixels = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + palette + alpha + pixels


RGB, GREY = Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])
PALETTE = RGB.quantize(32)
FILES = {
    "png rgb": save(RGB, "PNG"),
    "png grey": save(GREY, "PNG"),
    "png one bit": save(GREY.convert("1"), "PNG"),
    "png two bits": png_of(0, 2),
    "png four bits": png_of(0, 4),
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


TEXT = chunk(b"tEXt", b"note\0 tRNS IDAT") + chunk(b"gAMA", struct.pack(">I", 45455))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_transparency(decode, bits):
    """TensorFlow invents an alpha of 1, 3 or 15 where a file has none: a file may have the same."""
    everywhere = [bytes([alpha]) * 2**bits for alpha in (0, 1, 3, 15, 128, 254, 255)]
    some = [b"", b"\1", b"\3", b"\17", GENERATOR.integers(0, 256, 2**bits, np.uint8).tobytes()]
    for transparency in (None, *everywhere, *some):
        for before in (b"", TEXT):
            content = png_of(3, bits, transparency, before)
            np.testing.assert_array_equal(decode[3](tf.constant(content)), decode_file(content, 3), f"{transparency}")
    for top in (1, 3, 15):
        content = png_of(3, bits, bytes([top]), colours=1)  # every pixel is of the one colour
        np.testing.assert_array_equal(decode[3](tf.constant(content)), decode_file(content, 3), f"{top}")


@pytest.mark.parametrize(
    ("kind", "bits"),
    [*((0, bits) for bits in (1, 2, 4, 8, 16)), *((kind, bits) for kind in (2, 4, 6) for bits in (8, 16))],
)
def test_every_kind_of_png(decode, kind, bits):
    keys = (None, *(struct.pack(">H", value) * SAMPLES[kind] for value in (0, 1, 2**bits - 1)))
    for transparency in keys if kind < 4 else (None,):
        content = png_of(kind, bits, transparency, TEXT)
        for channels, decoder in decode.items():
            np.testing.assert_array_equal(decoder(tf.constant(content)), decode_file(content, channels))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_few_bits(decode, bits):
    """PNG's own rule: pixels of this value, as it stands in the file, are transparent."""
    for value in range(0, 2**bits, max(1, 2**bits // 16)):
        content = png_of(0, bits, struct.pack(">H", value))
        plain = decode_file(content.replace(chunk(b"tRNS", struct.pack(">H", value)), b""), 1)
        expected = np.where(plain == round(value * 255 / (2**bits - 1)), 255, plain)
        np.testing.assert_array_equal(decode_file(content, 1), expected)
        np.testing.assert_array_equal(decode[1](tf.constant(content)), expected)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 20])
def test_a_chunk_that_declares_any_size_is_refused(decode, size):
    content = bytearray(png_of(3, 2, b"\1", TEXT))
    content[33:37] = struct.pack(">I", size)  # of the first chunk after the header
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[1](tf.constant(bytes(content)))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no picture at all"])
def test_other_bytes_are_refused_by_name(decode, content):
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither JPEG nor PNG"):
        decode[1](tf.constant(content))


@pytest.mark.parametrize("name", ["png rgb", "jpeg"])
@pytest.mark.parametrize("length", [4, 30, 200])
def test_a_picture_cut_short_is_refused(decode, name, length):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[1](tf.constant(FILES[name][:length]))
