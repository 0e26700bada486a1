import pytest

from tf_mamlpp.data import load_banks
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
