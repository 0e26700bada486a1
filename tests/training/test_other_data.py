"""A run tested on another source than its own."""

import dataclasses
import json

import numpy as np
import pytest

from tf_mamlpp import config as configs
from tf_mamlpp import data
from tf_mamlpp.config import Config, Data
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.other_data import other_source
from tf_mamlpp.training.results import evaluate_run


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config():
    return Config(data=Data(name="omniglot", path="somewhere", way=2, image_size=(8, 8), rotations=True))


def test_pictures_come_in_the_run_s_form(config, picture_tree, tmp_path):
    root = picture_tree(tmp_path / "pets", ["cat", "dog"])
    (tested, banks) = other_source(config, "image_folder", str(root))
    assert list(banks) == ["all"]
    assert banks["all"].images.shape == (8, 8, 8, 1)
    assert (tested.data.mean, tested.data.std) == (config.data.mean, config.data.std)
    assert not tested.data.rotations
    colour = dataclasses.replace(config, data=dataclasses.replace(config.data, channels=3, image_size=(6, 6)))
    (_, in_colour) = other_source(colour, "image_folder", str(root))
    assert in_colour["all"].images.shape == (8, 6, 6, 3)


def test_all_classes_are_one_pool_whatever_the_folders(config, picture_tree, tmp_path):
    root = picture_tree(tmp_path / "pets", ["train/cat", "train/dog", "val/eel", "test/cat"], pictures=2)
    (_, banks) = other_source(config, "image_folder", str(root))
    assert banks["all"].class_names == ("cat", "dog", "eel")
    assert banks["all"].offsets.tolist() == [0, 4, 6, 8]
    from_train, from_test = (data.decode_file(root / part / "cat" / "0.png", 1) for part in ("train", "test"))
    np.testing.assert_array_equal(banks["all"].images[0], from_train)
    np.testing.assert_array_equal(banks["all"].images[2], from_test)


def test_a_split_of_the_source(config, picture_tree, tmp_path):
    root = picture_tree(tmp_path / "pets", ["train/a", "train/b", "val/c", "val/d", "test/e", "test/f"])
    (_, banks) = other_source(config, "image_folder", str(root), "validation")
    assert banks["validation"].class_names == ("c", "d")


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("omniglott", None, "unknown data source 'omniglott'; known are"),
        ("image_folder", None, "data source 'image_folder' needs a path"),
        ("image_folder", "no/such", "no such folder"),
        ("sinusoid", None, "data source 'sinusoid' has no pictures"),
        ("omniglot", None, "data source 'omniglot' is the run's own: leave --data out"),
        ("omniglot", "./somewhere", "data source 'omniglot' is the run's own"),
    ],
)
def test_what_is_no_other_source(config, name, path, message):
    with pytest.raises(UserError, match=message):
        other_source(config, name, path)


@pytest.mark.parametrize(
    ("way", "query_shot", "message"),
    [(4, 1, "image_folder all: has 3 classes, fewer than way=4"), (2, 9, "only 0 of its 3 classes have shot")],
)
def test_too_few_classes_or_pictures(config, picture_tree, tmp_path, way, query_shot, message):
    root = picture_tree(tmp_path / "pets", "abc")
    task = dataclasses.replace(config.data, way=way, query_shot=query_shot)
    with pytest.raises(UserError, match=message):
        other_source(dataclasses.replace(config, data=task), "image_folder", str(root))


def test_a_regression_has_no_other_data(make_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(make_config(data=Data(name="sinusoid")))))
    with pytest.raises(UserError, match="the run is a regression"):
        other_source(make_config(data=Data(name="sinusoid")), "glyphs")


def test_a_run_on_another_folder(trained, picture_tree, tmp_path):
    _, workdir, own = trained
    other = picture_tree(tmp_path / "others", ["x", "y", "z"])
    seen = []
    (found,) = evaluate_run(
        workdir, [None], data_name="image_folder", data_path=str(other), report=lambda *both: seen.append(both)
    )
    assert (found["dataset"], found["trained_on"], found["split"]) == ("image_folder", "image_folder", "all")
    assert found["dataset_path"] == str(other)
    ((result, answers),) = seen
    assert result is found
    assert answers.bank.class_names == ("x", "y", "z")
    assert answers.accuracies.mean() == pytest.approx(found["accuracy"])
    task = {"way": 2, "shot": 1, "query_shot": 1, "tasks": found["tasks"], "seed": 0, "split": "all"}
    assert found["nearest_pixel"]["accuracy"] == data.nearest_pixel_accuracy(answers.bank, **task)[0]
    assert "nearest_class_mean" in found
    assert "trained_on" not in own
