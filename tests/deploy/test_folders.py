"""Folders of pictures through a deployed model; the model is a stand-in that knows its pictures by their grey."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.deploy import folders, predictions, trials
from tf_mamlpp.deploy.deployed_model import Learned
from tf_mamlpp.errors import UserError


class NearestGrey:
    """A deployed model's interface around nearest neighbours of mean grey."""

    way, image_size, channels = 3, (6, 6), 1
    query_statistics, resize_policy = "support", "crop"

    def __init__(self):
        self.sizes = []

    def learn(self, images, labels, class_names):
        assert images.dtype == np.uint8 and images.shape[1:] == (6, 6, 1)
        return Learned(images.mean((1, 2, 3)).astype(np.float32), tuple(class_names), images, np.asarray(labels))

    def answer(self, learned, images):
        self.sizes.append(len(images))
        distance = np.abs(images.mean((1, 2, 3))[:, None] - learned.state)
        nearest = np.eye(len(learned.class_names), dtype=np.float32)[learned.labels[distance.argmin(1)]]
        return 0.8 * nearest + 0.2 / len(learned.class_names)


GREYS = {"black": 0, "grey": 128, "white": 255}


@pytest.fixture
def model():
    return NearestGrey()


@pytest.fixture
def support(tmp_path):
    for name, value in GREYS.items():
        (tmp_path / "support" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (9, 7), value).save(tmp_path / "support" / name / f"{i}.png")
    return tmp_path / "support"


@pytest.fixture
def query(tmp_path):
    """Class folders of pictures of many formats and modes."""
    kinds = [("L", "png"), ("RGB", "jpg"), ("P", "gif"), ("RGBA", "png"), ("1", "png"), ("RGB", "bmp"), ("L", "webp")]
    for name, value in (("black", 10), ("white", 250)):
        folder = tmp_path / "query" / name
        folder.mkdir(parents=True)
        for i, (mode, form) in enumerate(kinds):
            Image.new("L", (20 + i, 15), value).convert(mode).save(folder / f"{i}.{form}")
        Image.fromarray(np.full((5, 8), value * 257, np.uint16)).save(folder / "deep.png")
    return tmp_path / "query"


def test_learns_and_classifies_every_format(model, support, query, tmp_path):
    learned = folders.learn_folder(model, support)
    assert learned.class_names == ("black", "grey", "white")
    assert learned.labels.tolist() == [0, 0, 1, 1, 2, 2]
    found = folders.classify_folder(model, learned, query)
    assert len(found.files) == 16 and found.skipped == 0 and found.truths is None
    assert all(label == name.split("/")[0] for name, label in zip(found.files, found.labels, strict=True))
    predictions.write_predictions(found, learned, tmp_path / "out")
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == found.files
    assert list(rows[0]) == ["file", "label", "probability black", "probability grey", "probability white"]
    assert float(rows[0]["probability black"]) == pytest.approx(0.8 + 0.2 / 3, abs=1e-6)
    assert Image.open(tmp_path / "out" / "contact_sheet.png").width == 1200


def test_a_turned_photograph_is_turned_back(model, support, tmp_path):
    """Left half black, right half white, with an orientation mark; seen upright it is top and bottom."""
    (tmp_path / "turned").mkdir()
    image = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 10, 0).repeat(10, 1))
    mark = Image.Exif()
    mark[0x0112] = 6
    image.save(tmp_path / "turned" / "a.png", exif=mark)
    learned = folders.learn_folder(model, support)
    shown = folders.classify_folder(model, learned, tmp_path / "turned").shown[0]
    assert shown.shape[:2] == (20, 10)


def test_unreadable_pictures_are_named_and_left_out(model, support, query, capsys):
    (support / "grey" / "2.png").write_bytes(b"not a picture")
    (query / "black" / "bad.png").write_bytes(b"")
    (query / "black" / "notes.txt").write_text("no picture")
    learned = folders.learn_folder(model, support)
    found = folders.classify_folder(model, learned, query)
    assert len(learned.labels) == 6 and len(found.files) == 16 and found.skipped == 1
    skipped = capsys.readouterr().err.splitlines()
    assert len(skipped) == 2 and "2.png" in skipped[0] and "bad.png" in skipped[1]
    assert "16 pictures (1 skipped)" in predictions.summary(found)


def test_names_that_are_no_text_and_trees_that_lead_back(model, support, query, tmp_path):
    (query / "black" / "0.png").rename(os.fsdecode(os.fsencode(query / "black") + b"/bad\xff\xfe.png"))
    (query / "black" / "up").symlink_to(query, target_is_directory=True)
    (query / ".hidden").mkdir()
    Image.new("L", (5, 5)).save(query / ".hidden" / "0.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("L", (5, 5)).save(elsewhere / "linked.jfif", "JPEG")
    (query / "linked").symlink_to(elsewhere, target_is_directory=True)
    found = folders.classify_folder(model, folders.learn_folder(model, support), query)
    assert len(found.files) == 17 and "linked/linked.jfif" in found.files
    predictions.write_predictions(found, folders.learn_folder(model, support), tmp_path / "out")
    assert "bad\\udcff\\udcfe.png" in (tmp_path / "out" / "predictions.csv").read_text()


def test_pictures_beside_the_class_folders_are_told(model, support, query, capsys):
    Image.new("L", (5, 5)).save(query / "stray.png")
    found = folders.classify_folder(model, folders.learn_folder(model, support), query, evaluate=True)
    assert len(found.files) == 16 and "stray.png" in capsys.readouterr().err


def test_class_names_of_several_lines_stay_on_one(model, support, query):
    (support / "black").rename(support / "bla\nck")
    found = folders.classify_folder(model, folders.learn_folder(model, support), query)
    assert "bla ck × 8" in predictions.summary(found) and "\n" not in predictions.summary(found)


def test_a_pool_that_cannot_be_read(model, tmp_path):
    (tmp_path / "pool" / "a").mkdir(parents=True)
    (tmp_path / "pool" / "a" / "0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="no picture in .* can be read"):
        trials.trials(model, tmp_path / "pool", way=2, shot=1, query_shot=1, count=2)


def test_evaluates_against_the_class_folders(model, support, query, tmp_path):
    (query / "grey").mkdir()
    Image.new("L", (5, 5), 250).save(query / "grey" / "odd.png")
    learned = folders.learn_folder(model, support)
    found = folders.classify_folder(model, learned, query, evaluate=True)
    assert found.accuracy == pytest.approx(16 / 17)
    assert predictions.confusion_matrix(found).split("\n") == [
        "true \\ predicted  black  grey  white",
        "black                 8     0      0",
        "grey                  0     0      1",
        "white                 0     0      8",
    ]
    assert "accuracy 94.1 %" in predictions.summary(found)
    predictions.write_predictions(found, learned, tmp_path / "out")
    assert (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0].startswith("file,label,truth,prob")


@pytest.mark.parametrize("statistics, sizes", [("support", [5, 5, 5, 1]), ("batch", [16])])
def test_pictures_come_in_chunks_unless_they_are_one_batch(model, support, query, monkeypatch, statistics, sizes):
    monkeypatch.setattr(folders, "_CHUNK", 5)
    monkeypatch.setattr(folders, "_SHEET", 3)
    model.query_statistics = statistics
    found = folders.classify_folder(model, folders.learn_folder(model, support), query)
    assert model.sizes == sizes and len(found.probabilities) == 16 and len(found.shown) == 3


def test_mistakes_are_named(model, support, query, tmp_path):
    learned = folders.learn_folder(model, support)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, message in ((tmp_path / "none", "is no folder"), (empty, "no class folders")):
        with pytest.raises(UserError, match=message):
            folders.learn_folder(model, folder)
    for folder, message in ((tmp_path / "none", "is no folder"), (empty, "has no pictures")):
        with pytest.raises(UserError, match=message):
            folders.classify_folder(model, learned, folder)
    (empty / "a.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="none of the 1 pictures"):
        folders.classify_folder(model, learned, empty)
    (query / "green").mkdir()
    Image.new("L", (5, 5)).save(query / "green" / "0.png")
    with pytest.raises(UserError, match="class 'green', which was not learned"):
        folders.classify_folder(model, learned, query, evaluate=True)
    (support / "red").mkdir()
    (support / "red" / "0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="4 class folders, and the model tells 3 apart"):
        folders.learn_folder(model, support)
    model.way = 4
    with pytest.raises(UserError, match="no picture of class 'red'"):
        folders.learn_folder(model, support)


def test_trials(model, support):
    """Classes that grey alone tells apart: both the model and nearest pixels are always right."""
    found = trials.trials(model, support, way=3, shot=1, query_shot=1, count=4)
    assert found == {"accuracy": (1.0, 0.0), "nearest_pixel": (1.0, 0.0)}
    with pytest.raises(UserError, match="trials of 4 classes"):
        trials.trials(model, support, way=4, shot=1, query_shot=1, count=4)
    with pytest.raises(UserError):
        trials.trials(model, support, way=3, shot=2, query_shot=1, count=4)
