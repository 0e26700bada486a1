from tf_mamlpp.data.pixel_defaults import IMAGENET_MEAN, IMAGENET_STD, is_omniglot, pixel_format, pixel_statistics


def test_what_counts_as_omniglot():
    names = ["omniglot", "tfds:omniglot", "tfds:omniglot:3.0.0", "glyphs", "tfds:mnist", "image_folder"]
    assert [is_omniglot(name) for name in names] == [True, True, True, False, False, False]


def test_usual_formats_and_statistics():
    assert pixel_format("glyphs") == pixel_format("tfds:omniglot") == ((28, 28), 1)
    assert pixel_format("image_folder") == ((84, 84), 3)
    assert pixel_statistics("omniglot", 1) == ((1.0,), (-1.0,))
    assert pixel_statistics("image_folder", 3) == (IMAGENET_MEAN, IMAGENET_STD)
    assert pixel_statistics("image_folder", 1) == ((0.5,), (0.5,))
