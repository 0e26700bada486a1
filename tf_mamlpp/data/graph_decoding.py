"""Decoding of JPEG and PNG inside a TensorFlow graph, as an exported model does it: Pillow cannot run there."""

from __future__ import annotations

import tensorflow as tf

from tf_mamlpp.data.images import MOST_PIXELS

# Byte offsets in a PNG file.
_SIZE_POSITION = 16  # of width and height
_DEPTH_POSITION = 24  # of the bits a sample, with the kind of colours after them
_FIRST_CHUNK = 8

_GREY_KIND = 0  # without alpha
_ALPHA_KINDS = 4  # a bit of the kinds that have alpha


def decode_encoded(content: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG or PNG in a graph, to the same grey values as `decode_file`.

    Palettes, grey, transparency (laid over white) and 16-bit PNG are understood. There are two differences: a camera's
    orientation mark is not obeyed, and neither is the one transparent colour of an RGB PNG of 16 bits as in Pillow.

    Args:
        content: scalar string, the file's bytes.
        channels: 1 for grey, 3 for RGB.

    Returns:
        float32 `[H, W, channels]`, whole numbers 0..255.

    Raises:
        tf.errors.InvalidArgumentError: when run, if the bytes are neither JPEG nor PNG, are damaged, or are a picture
            of over `MOST_PIXELS`.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
        >>> decode_encoded(tf.io.read_file(str(tmp_path / "red.png")), channels=1)[0].numpy().tolist()
        [[76.0], [76.0], [76.0]]
    """
    is_jpeg, is_png = tf.io.is_jpeg(content), tf.equal(tf.strings.substr(content, 0, 4), b"\x89PNG")
    known = tf.debugging.Assert(
        tf.logical_or(is_jpeg, is_png),
        ["a picture is neither JPEG nor PNG: convert it first. Its size in bytes:", tf.strings.length(content)],
    )
    with tf.control_dependencies([known] if known is not None else []):
        shape = tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(content)[:2], lambda: _png_shape(content))
    small_enough = tf.debugging.Assert(
        tf.reduce_prod(tf.cast(shape, tf.int64)) <= MOST_PIXELS, ["a picture has too many pixels:", shape]
    )
    with tf.control_dependencies([small_enough] if small_enough is not None else []):
        rgb = tf.cond(is_jpeg, lambda: _jpeg(content), lambda: _png(content))
    return tf.cast(rgb if channels == 3 else _grey(rgb), tf.float32)


def _jpeg(content: tf.Tensor) -> tf.Tensor:
    # The decoder's fast default is up to 3 grey values off Pillow's.
    return tf.cast(tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"), tf.int32)


def _png_shape(content: tf.Tensor) -> tf.Tensor:
    """Height and width as a PNG declares them, int32."""
    declared = tf.strings.substr(content + bytes(32), _SIZE_POSITION, 8)
    return tf.io.decode_raw(declared, tf.int32, little_endian=False)[::-1] & 0x7FFFFFFF


def _png(content: tf.Tensor) -> tf.Tensor:
    """RGB in 0..255, int32; transparent parts lie over white."""
    header = tf.io.decode_raw(tf.strings.substr(content + bytes(32), _DEPTH_POSITION, 2), tf.uint8)
    depth, kind = tf.unstack(tf.cast(header, tf.int32), 2)
    # Of the pictures of 16 bits, Pillow cuts all to 8 bits, as the decoder does, but for grey ones, which are rounded.
    rounded = tf.logical_and(depth > 8, kind == _GREY_KIND)
    rgba = tf.cond(rounded, lambda: _png_of_16_bits(content), lambda: tf.cast(tf.io.decode_png(content, 4), tf.int32))
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    # Where a picture has no alpha, the decoder makes it the largest value of a sample, such as 1 for one bit.
    has_alpha = tf.logical_or(tf.bitwise.bitwise_and(kind, _ALPHA_KINDS) > 0, _has_transparency(content))
    alpha = tf.where(has_alpha, alpha, 255)
    # Pillow's alpha composite over white, in its own integer arithmetic.
    blended = 128 * (colour * alpha + 255 * (255 - alpha)) + 0x4000
    return tf.bitwise.right_shift(tf.bitwise.right_shift(blended, 8) + blended, 15)


def _has_transparency(content: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has a chunk tRNS before its pixels, which is not empty; a scalar, bool."""
    length = tf.strings.length(content)

    def chunk(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Size and name of the chunk at a position; beyond the file's end, nothing."""
        head = tf.strings.substr(content + bytes(32), tf.minimum(position, length), 8)
        size = tf.io.decode_raw(tf.strings.substr(head, 0, 4), tf.int32, little_endian=False)[0]
        return size & 0x7FFFFFFF, tf.strings.substr(head, 4, 4)

    def goes_on(position: tf.Tensor) -> tf.Tensor:
        name = chunk(position)[1]
        return tf.logical_and(position < length, tf.reduce_all(name != [b"tRNS", b"IDAT"]))

    def following(position: tf.Tensor) -> tuple[tf.Tensor]:
        size = tf.minimum(chunk(position)[0], length)  # of a damaged file it may be anything
        return (position + size + 12,)  # 4 bytes of size, 4 of name, 4 of checksum

    (position,) = tf.while_loop(goes_on, following, (tf.constant(_FIRST_CHUNK),))
    size, name = chunk(position)
    return tf.logical_and(name == b"tRNS", size > 0)


def _png_of_16_bits(content: tf.Tensor) -> tf.Tensor:
    """RGBA in 0..255, int32, rounded."""
    return (tf.cast(tf.io.decode_png(content, 4, tf.uint16), tf.int32) + 128) // 257


def _grey(rgb: tf.Tensor) -> tf.Tensor:
    """ITU-R 601 luma with Pillow's integer weights; exact for pictures that are grey already."""
    weights = tf.constant([19595, 38470, 7471])
    return tf.bitwise.right_shift(tf.reduce_sum(rgb * weights, -1, keepdims=True) + 0x8000, 16)
