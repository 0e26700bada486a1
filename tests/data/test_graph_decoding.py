"""The graph's decoder against Pillow's, which training uses: the same grey values, bit for bit."""

import struct

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


SAMPLES = {
    0: 1,
    2: 3,
    3: 1,
    4: 2,
    6: 4,
}  # of a pixel, for each of PNG's kinds: grey, RGB, palette, grey and RGB with alpha


RGB, GREY = Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])
PALETTE = RGB.quantize(32)
FILES = {  # the picture, the form and how it is saved
    "png rgb": (RGB, "PNG", {}),
    "png grey": (GREY, "PNG", {}),
    "png one bit": (GREY.convert("1"), "PNG", {}),
    "png sixteen bits": (Image.fromarray(DEEP), "PNG", {}),
    "png palette": (PALETTE, "PNG", {}),
    "png palette of four": (RGB.quantize(4), "PNG", {"bits": 2}),
    "png palette, one transparent": (PALETTE, "PNG", {"transparency": 3}),
    "png grey, one transparent": (GREY, "PNG", {"transparency": int(NOISE[0, 0, 0])}),
    "png alpha": (Image.fromarray(ALPHA), "PNG", {}),
    "png grey alpha": (Image.fromarray(ALPHA).convert("LA"), "PNG", {}),
    "jpeg": (RGB, "JPEG", {"quality": 60}),
    "jpeg grey": (GREY, "JPEG", {}),
    "jpeg 4:4:4": (RGB, "JPEG", {"subsampling": 0, "quality": 95}),
    "jpeg progressive": (RGB, "JPEG", {"progressive": True}),
    "jpeg cmyk": (RGB.convert("CMYK"), "JPEG", {}),
}
FEW_BITS = {"png two bits": 2, "png four bits": 4}  # which Pillow reads but does not write


@pytest.fixture(scope="module")
def png_of(raw_png, png_chunk):
    """A PNG of any kind and number of bits, most of which Pillow reads but does not write: png_of(kind, bits, ...)."""

    def make(kind, bits, transparency=None, before=b"", colours=None, height=7, width=13):
        colours = colours or 2**bits
        rows = b""
        for row in GENERATOR.integers(0, colours, (height, width * SAMPLES[kind])):
            line = "".join(f"{value:0{bits}b}" for value in row)
            line += "0" * (-len(line) % 8)
            rows += b"\0" + bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))
        palette = b""
        if kind == 3:
            palette = png_chunk(b"PLTE", GENERATOR.integers(0, 256, 3 * colours, np.uint8).tobytes())
        alpha = b"" if transparency is None else png_chunk(b"tRNS", transparency)
        return raw_png(width, height, bits, kind, rows, before + palette + alpha)

    return make


@pytest.fixture(scope="module")
def files(encoded, png_of):
    """The bytes of each file by its name."""
    saved = {name: encoded(image, form, **options) for name, (image, form, options) in FILES.items()}
    return saved | {name: png_of(0, bits) for name, bits in FEW_BITS.items()}


@pytest.fixture(scope="module")
def text(png_chunk):
    """Parts of a PNG that say nothing of its pixels, one of them with the names of others in it."""
    return png_chunk(b"tEXt", b"note\0 tRNS IDAT") + png_chunk(b"gAMA", struct.pack(">I", 45455))


@pytest.fixture(scope="module")
def decode():
    """Decodes in a graph that is traced once for each number of channels."""
    signature = [tf.TensorSpec((), tf.string)]
    return {c: tf.function(lambda s, c=c: decode_encoded(s, c), signature, autograph=False) for c in (1, 3)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*FILES, *FEW_BITS])
def test_equals_pillow(files, decode, name, channels):
    decoded = decode[channels](tf.constant(files[name]))
    assert decoded.dtype == tf.float32
    np.testing.assert_array_equal(decoded, decode_file(files[name], channels))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_transparency(png_of, text, decode, bits):
    """TensorFlow invents an alpha of 1, 3 or 15 where a file has none: a file may have the same."""
    everywhere = [bytes([alpha]) * 2**bits for alpha in (0, 1, 3, 15, 128, 254, 255)]
    some = [b"", b"\1", b"\3", b"\17", GENERATOR.integers(0, 256, 2**bits, np.uint8).tobytes()]
    for transparency in (None, *everywhere, *some):
        for before in (b"", text):
            content = png_of(3, bits, transparency, before)
            np.testing.assert_array_equal(decode[3](tf.constant(content)), decode_file(content, 3), f"{transparency}")
    for top in (1, 3, 15):
        content = png_of(3, bits, bytes([top]), colours=1)  # every pixel is of the one colour
        np.testing.assert_array_equal(decode[3](tf.constant(content)), decode_file(content, 3), f"{top}")


@pytest.mark.parametrize(
    ("kind", "bits"),
    [*((0, bits) for bits in (1, 2, 4, 8, 16)), *((kind, bits) for kind in (2, 4, 6) for bits in (8, 16))],
)
def test_every_kind_of_png(png_of, text, decode, kind, bits):
    keys = (None, *(struct.pack(">H", value) * SAMPLES[kind] for value in (0, 1, 2**bits - 1)))
    for transparency in keys if kind < 4 else (None,):
        content = png_of(kind, bits, transparency, text)
        for channels, decoder in decode.items():
            np.testing.assert_array_equal(decoder(tf.constant(content)), decode_file(content, channels))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_few_bits(png_of, png_chunk, decode, bits):
    """PNG's own rule: pixels of this value, as it stands in the file, are transparent."""
    for value in range(0, 2**bits, max(1, 2**bits // 16)):
        content = png_of(0, bits, struct.pack(">H", value))
        plain = decode_file(content.replace(png_chunk(b"tRNS", struct.pack(">H", value)), b""), 1)
        expected = np.where(plain == round(value * 255 / (2**bits - 1)), 255, plain)
        np.testing.assert_array_equal(decode_file(content, 1), expected)
        np.testing.assert_array_equal(decode[1](tf.constant(content)), expected)


@pytest.mark.slow_cases("2147483647")
@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 20])
def test_a_chunk_that_declares_any_size_is_refused(png_of, text, decode, size):
    content = bytearray(png_of(3, 2, b"\1", text))
    content[33:37] = struct.pack(">I", size)  # of the first chunk after the header
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[1](tf.constant(bytes(content)))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no picture at all"])
def test_other_bytes_are_refused_by_name(decode, content):
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither JPEG nor PNG"):
        decode[1](tf.constant(content))


@pytest.mark.parametrize("name", ["png rgb", "jpeg"])
@pytest.mark.parametrize("length", [4, 30, 200])
def test_a_picture_cut_short_is_refused(files, decode, name, length):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[1](tf.constant(files[name][:length]))
