"""Decoding of JPEG and PNG inside a TensorFlow graph, as an exported model does it: Pillow cannot run there."""

from __future__ import annotations

import tensorflow as tf

from tf_mamlpp.data.images import MOST_PIXELS

# Byte offsets in a PNG file.
_SIZE_POSITION = 16  # of width and height
_DEPTH_POSITION = 24  # of the bits a sample


def decode_encoded(content: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG or PNG in a graph, to the same grey values as `decode_file`.

    Palettes, grey, transparency (laid over white) and 16-bit PNG are understood. There are two differences: a camera's
    orientation mark is not obeyed, and 16-bit colour may be one grey value off.

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
    # Asked for 8 bits, the decoder cuts off 16-bit samples that Pillow rounds.
    depth = tf.cast(tf.io.decode_raw(tf.strings.substr(content + bytes(32), _DEPTH_POSITION, 1), tf.uint8)[0], tf.int32)
    rgba = tf.cond(depth > 8, lambda: _png_of_16_bits(content), lambda: tf.cast(tf.io.decode_png(content, 4), tf.int32))
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    # Where a picture has no alpha, the decoder makes it the largest value of a sample, such as 1 for one bit.
    opaque = tf.reduce_all(alpha == tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1)
    alpha = tf.where(opaque, 255, alpha)
    # Pillow's alpha composite over white, in its own integer arithmetic.
    blended = 128 * (colour * alpha + 255 * (255 - alpha)) + 0x4000
    return tf.bitwise.right_shift(tf.bitwise.right_shift(blended, 8) + blended, 15)


def _png_of_16_bits(content: tf.Tensor) -> tf.Tensor:
    """RGBA in 0..255, int32, rounded."""
    return (tf.cast(tf.io.decode_png(content, 4, tf.uint16), tf.int32) + 128) // 257


def _grey(rgb: tf.Tensor) -> tf.Tensor:
    """ITU-R 601 luma with Pillow's integer weights; exact for pictures that are grey already."""
    weights = tf.constant([19595, 38470, 7471])
    return tf.bitwise.right_shift(tf.reduce_sum(rgb * weights, -1, keepdims=True) + 0x8000, 16)
