"""Kinds of data: which settings each takes."""

import dataclasses

import pytest

from tf_mamlpp.config import Augmentation, Config, Data
from tf_mamlpp.data.kinds import kind_of
from tf_mamlpp.errors import UserError

PICTURES_ALONE = {
    "image_size": (8, 8),
    "channels": 3,
    "resize": "crop",
    "mean": (0.5,),
    "std": (0.5,),
    "rotations": True,
    "skip_damaged": True,
    "cache_dir": "somewhere",
}


@pytest.mark.parametrize("name", PICTURES_ALONE)
def test_arrays_take_no_setting_of_pictures(name):
    with pytest.raises(
        UserError, match=f"^data.{name} has no use with data.name=arrays: it is for pictures( and sound)?$"
    ):
        Data(name="arrays", **{name: PICTURES_ALONE[name]})


def test_pictures_take_no_setting_of_arrays():
    with pytest.raises(UserError, match="^data.normalise has no use with data.name=glyphs: it is for arrays$"):
        Data(normalise=False)


def test_every_setting_of_a_kind_is_one_of_the_config():
    fields = {field.name for field in dataclasses.fields(Data)}
    assert all(set(kind_of(name).settings) <= fields for name in ("glyphs", "arrays", "sinusoid"))


def test_arrays_are_not_augmented():
    with pytest.raises(UserError, match="^augmentation has no use with data.name=arrays, which has no pictures"):
        Config(data=Data(name="arrays"), augmentation=Augmentation(flip=True))
