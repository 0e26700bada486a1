import pytest

from tf_mamlpp.data import load_banks
from tf_mamlpp.data.banks import is_omniglot, pixel_format, pixel_statistics
from tf_mamlpp.errors import UserError


def test_unknown_name_lists_the_known():
    with pytest.raises(UserError, match="unknown data source 'omniglott'; known are glyphs, omniglot"):
        load_banks("omniglott")


def test_channels_must_be_grey_or_rgb():
    with pytest.raises(UserError, match="channels=2"):
        load_banks("glyphs", channels=2)


@pytest.mark.parametrize("name", ["glyphs", "mini_imagenet"])
def test_sources_with_splits_of_their_own_take_no_split_file(name, tmp_path):
    with pytest.raises(UserError, match=f"'{name}' has splits of its own"):
        load_banks(name, tmp_path, split_file=tmp_path / "lists.json")


def test_what_counts_as_omniglot():
    names = ["omniglot", "tfds:omniglot", "tfds:omniglot:3.0.0", "glyphs", "tfds:mnist", "image_folder"]
    assert [is_omniglot(name) for name in names] == [True, True, True, False, False, False]


def test_usual_formats_and_statistics():
    assert pixel_format("glyphs") == pixel_format("tfds:omniglot") == ((28, 28), 1)
    assert pixel_format("image_folder") == ((84, 84), 3)
    assert pixel_statistics("omniglot", 1) == ((1.0,), (-1.0,))
    assert len(pixel_statistics("image_folder", 3)[0]) == 3
    assert pixel_statistics("image_folder", 1) == ((0.5,), (0.5,))
