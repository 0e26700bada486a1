import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_mamlpp.data import decode_file, normalise, resize
from tf_mamlpp.data.images import to_channels
from tf_mamlpp.errors import UserError


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_resize_keeps_leading_axes_and_gives_whole_numbers():
    resized = resize(random_images(2, 3, 20, 30, 3), (7, 9)).numpy()
    assert resized.shape == (2, 3, 7, 9, 3) and resized.dtype == np.float32
    np.testing.assert_array_equal(resized, np.round(resized))
    np.testing.assert_array_equal(resize(resized, (7, 9)), resized)


def test_resize_halves_with_an_antialiasing_triangle():
    line = np.zeros((1, 8, 1), np.float32)
    line[0, 4] = 160
    # The triangle of half-width 2 at centres 0.5 and 2.5 pixels off: weights 3/8, 1/8 and so on.
    np.testing.assert_array_equal(resize(line, (1, 4)).numpy()[0, :, 0], [0, 20, 60, 0])


def test_resize_agrees_in_a_graph_with_unknown_sizes_and_with_one_at_a_time():
    images = random_images(3, 105, 105, 1)
    eager = resize(images, (28, 28)).numpy()
    spec = tf.TensorSpec([None, None, None, 1], tf.uint8)
    graph = tf.function(lambda x: resize(x, (28, 28)), input_signature=[spec])
    np.testing.assert_array_equal(graph(images), eager)
    np.testing.assert_array_equal(np.stack([resize(image, (28, 28)) for image in images]), eager)
    np.testing.assert_array_equal(resize(images.astype(np.float32), (28, 28)), eager)
    same = tf.function(lambda x: resize(x, (105, 105)), input_signature=[spec])
    np.testing.assert_array_equal(same(images), images)


@pytest.mark.parametrize(
    "shape, size, part",
    [
        ((20, 30), (8, 8), np.s_[:, 5:25]),
        ((30, 20), (8, 8), np.s_[5:25, :]),
        ((20, 30), (4, 8), np.s_[2:17, :]),  # 30 * 4 / 8 = 15 rows
        ((20, 31), (8, 8), np.s_[:, 5:25]),
        ((20, 3), (2, 80), np.s_[9:10, :]),  # less than a row, so one row
        ((16, 16), (8, 8), np.s_[:, :]),
    ],
)
def test_crop_cuts_the_largest_part_of_the_proportions_from_the_middle(shape, size, part):
    image = random_images(*shape, 3)
    expected = resize(image[part], size).numpy()
    np.testing.assert_array_equal(resize(image, size, "crop"), expected)
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    graph = tf.function(lambda x: resize(x, size, "crop"), input_signature=[spec])
    assert graph.get_concrete_function().output_shapes == (*size, 3)
    np.testing.assert_array_equal(graph(image), expected)
    known = tf.function(lambda x: resize(x, size, "crop"))(image[None, None])
    np.testing.assert_array_equal(known[0, 0], expected)


def test_unknown_resize_policy_is_named():
    with pytest.raises(UserError, match="resize policy 'pad' is none of stretch, crop"):
        resize(random_images(4, 4, 1), (2, 2), "pad")


def test_normalise_closed_form():
    images = random_images(4, 5, 5, 3)
    mean, std = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
    np.testing.assert_allclose(normalise(images, mean, std), (images / 255.0 - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(normalise(images, [0.5], [0.25]), normalise(images, [0.5] * 3, [0.25] * 3))
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8)
    graph = tf.function(lambda x: normalise(x, mean, std), input_signature=[spec])
    np.testing.assert_allclose(graph(images), normalise(images, mean, std), rtol=1e-5, atol=1e-6)
    ink_and_paper = np.array([[[0], [255]]], np.uint8)
    np.testing.assert_array_equal(normalise(ink_and_paper, [1.0], [-1.0]), [[[1], [0]]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_decode_any_mode(mode):
    grey = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode)
    content = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    np.testing.assert_array_equal(decode_file(content, 1)[..., 0], [[0, 255], [0, 255]])
    np.testing.assert_array_equal(decode_file(content, 3), np.repeat(decode_file(content, 1), 3, axis=-1))


def test_decode_lays_transparency_over_white():
    content = encode(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))
    assert (decode_file(content, 3) == 255).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0])
    assert (decode_file(encode(palette, "GIF", transparency=0), 1) == 255).all()


def test_decode_obeys_camera_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter clockwise to show upright
    upright = Image.fromarray(np.array([[0, 255], [0, 255], [0, 255]], np.uint8))
    file = tmp_path / "turned.png"
    upright.save(file, exif=exif)
    np.testing.assert_array_equal(decode_file(file, 1)[..., 0], [[0, 0, 0], [255, 255, 255]])


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"no picture", lambda c: b""])
def test_damaged_picture_is_named(damage, tmp_path):
    content = damage(encode(Image.fromarray(random_images(40, 40))))
    with pytest.raises(UserError, match="cat/one.png.*cannot be read"):
        decode_file(content, 1, "cat/one.png")
    (tmp_path / "two.png").write_bytes(content)
    with pytest.raises(UserError, match="two.png"):
        decode_file(tmp_path / "two.png", 3)


def test_to_channels_of_arrays():
    grey = random_images(3, 4)
    np.testing.assert_array_equal(to_channels(grey, 3), np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(to_channels(grey[..., None], 1)[..., 0], grey)
    np.testing.assert_array_equal(to_channels(np.repeat(grey[..., None], 3, axis=-1), 1)[..., 0], grey)


def test_a_grey_tiff_of_32_bits_is_refused(tmp_path):
    """Its range is anybody's guess: 0..255 here, which as 16 bits would be black."""
    Image.fromarray(np.full((4, 4), 200, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(UserError, match="deep.tif.*32-bit"):
        decode_file(tmp_path / "deep.tif", 1)
