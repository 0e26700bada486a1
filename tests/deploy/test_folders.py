"""Folders of pictures through a deployed model."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.deploy import deployed_model, folders, predictions
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.errors import UserError


def test_adapts_to_and_predicts_every_format(model, support, query, tmp_path):
    task = folders.adapt_to_folder(model, support)
    assert task.class_names == ("black", "grey", "white")
    assert task.labels.tolist() == [0, 0, 1, 1, 2, 2]
    found = folders.predict_folder(model, task, query)
    assert len(found.files) == 16 and found.skipped == 0 and found.truths is None
    assert all(label == name.split("/")[0] for name, label in zip(found.files, found.labels, strict=True))
    predictions.write_predictions(found, task, tmp_path / "out")
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
    task = folders.adapt_to_folder(model, support)
    shown = folders.predict_folder(model, task, tmp_path / "turned").shown[0]
    assert shown.shape[:2] == (20, 10)


def test_unreadable_pictures_are_named_and_left_out(model, support, query, capsys):
    (support / "grey" / "2.png").write_bytes(b"not a picture")
    (query / "black" / "bad.png").write_bytes(b"")
    (query / "black" / "notes.txt").write_text("no picture")
    task = folders.adapt_to_folder(model, support)
    found = folders.predict_folder(model, task, query)
    assert len(task.labels) == 6 and len(found.files) == 16 and found.skipped == 1
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
    found = folders.predict_folder(model, folders.adapt_to_folder(model, support), query)
    assert len(found.files) == 17 and "linked/linked.jfif" in found.files
    predictions.write_predictions(found, folders.adapt_to_folder(model, support), tmp_path / "out")
    assert "bad\\udcff\\udcfe.png" in (tmp_path / "out" / "predictions.csv").read_text()


def test_pictures_beside_the_class_folders_are_named(model, support, query, capsys):
    Image.new("L", (5, 5)).save(query / "stray.png")
    found = folders.predict_folder(model, folders.adapt_to_folder(model, support), query, evaluate=True)
    assert len(found.files) == 16 and "stray.png" in capsys.readouterr().err


@pytest.mark.parametrize("statistics, sizes", [("support", [5, 5, 5, 1]), ("batch", [16])])
def test_pictures_come_in_chunks_unless_they_are_one_batch(model, support, query, monkeypatch, statistics, sizes):
    monkeypatch.setattr(deployed_model, "_AT_ONCE", 5)
    monkeypatch.setattr(folders, "_MOST_SHOWN", 3)
    model.query_statistics = statistics
    found = folders.predict_folder(model, folders.adapt_to_folder(model, support), query)
    assert model.sizes == sizes and len(found.probabilities) == 16 and len(found.shown) == 3


def test_mistakes_are_named(model, support, query, tmp_path):
    task = folders.adapt_to_folder(model, support)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, message in ((tmp_path / "none", "is no folder"), (empty, "no class folders")):
        with pytest.raises(UserError, match=message):
            folders.adapt_to_folder(model, folder)
    for folder, message in ((tmp_path / "none", "is no folder"), (empty, "has no pictures")):
        with pytest.raises(UserError, match=message):
            folders.predict_folder(model, task, folder)
    (empty / "a.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="none of the 1 pictures"):
        folders.predict_folder(model, task, empty)
    (query / "green").mkdir()
    Image.new("L", (5, 5)).save(query / "green" / "0.png")
    with pytest.raises(UserError, match="class 'green', which was not learned"):
        folders.predict_folder(model, task, query, evaluate=True)
    (support / "red").mkdir()
    (support / "red" / "0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="4 class folders, and the model tells 3 apart"):
        folders.adapt_to_folder(model, support)
    model.way = 4
    with pytest.raises(UserError, match="no picture of class 'red'"):
        folders.adapt_to_folder(model, support)


@pytest.mark.parametrize("output", [".", "out", "black/out"])
@pytest.mark.parametrize("evaluate", [False, True])
def test_answers_inside_the_query_folder_are_not_classified(model, support, query, capsys, output, evaluate):
    task = folders.adapt_to_folder(model, support)
    first = folders.predict_folder(model, task, query)
    predictions.write_predictions(first, task, query / output)
    again = folders.predict_folder(model, task, query, evaluate)
    assert again.files == first.files and again.skipped == 0
    sheet = query / output / "contact_sheet.png"
    assert capsys.readouterr().err == f"skipped: {sheet}: the contact sheet of the predictions.csv beside it\n"


def test_answers_inside_the_support_folder_are_no_class(model, support, query, capsys):
    task = folders.adapt_to_folder(model, support)
    for output in ("out", "grey"):
        predictions.write_predictions(folders.predict_folder(model, task, query), task, support / output)
    again = folders.adapt_to_folder(model, support)
    assert again.class_names == task.class_names and len(again.labels) == len(task.labels)
    assert capsys.readouterr().err.count("skipped: ") == 2


def test_a_picture_of_that_name_alone_is_a_picture(model, support, query):
    (query / "black" / "0.png").rename(query / "black" / "contact_sheet.png")
    found = folders.predict_folder(model, folders.adapt_to_folder(model, support), query)
    assert len(found.files) == 16


def test_one_class_more_and_one_less(model, support, query, tmp_path):
    (tmp_path / "first").mkdir()
    (support / "white").rename(tmp_path / "first" / "white")
    before = folders.learn(model, None, tmp_path / "first")
    assert folders.learn(model, before, None) is before
    task = folders.learn(model, before, support)
    assert task.class_names == ("white", "black", "grey") and len(task.images) == 6
    assert folders.learn(model, task, None, ["grey"]).class_names == ("white", "black")
    found = folders.predict_folder(model, task, query, evaluate=True)
    old = folders.predict_folder(model, before, query, True, classes=["white"])
    assert predictions.change(old, found) == "accuracy on the 1 classes of before: 100.0 %, now 100.0 % (8 pictures)"


def test_a_task_of_another_model(model, support):
    task = folders.adapt_to_folder(model, support)
    other = AdaptedTask(task.state, task.class_names, task.images[:, :5], task.labels)
    with pytest.raises(UserError, match="the learned state does not belong to this model"):
        folders.learn(model, other, support)


@pytest.fixture
def with_unknown(query):
    """Beside pictures of two classes, a class folder of two greys that are none of the three."""
    (query / "unknown").mkdir()
    for value in (64, 190):
        Image.new("L", (9, 9), value).save(query / "unknown" / f"{value}.png")
    return query


def test_pictures_of_no_class_are_rejected(model, support, with_unknown, tmp_path):
    task = folders.adapt_to_folder(model, support)
    found = folders.predict_folder(model, task, with_unknown, evaluate=True, reject=True)
    assert found.accuracy == 1.0 and found.labels.count("unknown") == 2 and len(found.files) == 18
    assert predictions.summary(found).endswith(", 2 unknown, accuracy 100.0 %: black × 8, white × 8, unknown × 2")
    assert predictions.confusion_matrix(found).splitlines()[-1].split() == ["unknown", "0", "0", "0", "2"]
    predictions.write_predictions(found, task, tmp_path / "out")
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    row = rows["unknown/64.png"]
    assert list(row)[:4] == ["file", "label", "truth", "known"] and row["label"] == row["truth"] == "unknown"
    assert float(row["known"]) < 0.5 <= float(rows["black/0.png"]["known"])
    assert Image.open(tmp_path / "out" / "contact_sheet.png").width == 1200


@pytest.mark.parametrize("statistics", ["support", "batch"])
def test_rejection_goes_through_chunks(model, support, with_unknown, monkeypatch, statistics):
    task, model.query_statistics = folders.adapt_to_folder(model, support), statistics
    whole = folders.predict_folder(model, task, with_unknown, reject=True)
    monkeypatch.setattr(deployed_model, "_AT_ONCE", 5)
    np.testing.assert_array_equal(folders.predict_folder(model, task, with_unknown, reject=True).known, whole.known)
    assert whole.truths is None and whole.rejected.sum() == 2


def test_without_rejection_nothing_changes(model, support, with_unknown):
    task = folders.adapt_to_folder(model, support)
    found = folders.predict_folder(model, task, with_unknown)
    assert found.known is None and "unknown" not in found.labels and not found.rejected.any()
    with pytest.raises(UserError, match="has class 'unknown', which was not learned"):
        folders.predict_folder(model, task, with_unknown, evaluate=True)


def test_what_cannot_be_rejected(model, support, query):
    task = folders.adapt_to_folder(model, support)
    model.threshold = None
    with pytest.raises(UserError, match="^this model has no threshold"):
        folders.predict_folder(model, task, query, reject=True)
    model.threshold = 0.5
    (support / "grey").rename(support / "unknown")
    with pytest.raises(UserError, match="^a class is called 'unknown', the label of --reject"):
        folders.predict_folder(model, folders.adapt_to_folder(model, support), query, reject=True)
