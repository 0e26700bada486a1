import csv

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.deploy import folders, predictions
from tf_mamlpp.deploy.adapted_task import AdaptedTask


def test_class_names_of_several_lines_stay_on_one(model, support, query):
    (support / "black").rename(support / "bla\nck")
    found = folders.predict_folder(model, folders.adapt_to_folder(model, support), query)
    assert "bla ck × 8" in predictions.summary(found) and "\n" not in predictions.summary(found)


def test_evaluates_against_the_class_folders(model, support, query, tmp_path):
    (query / "grey").mkdir()
    Image.new("L", (5, 5), 250).save(query / "grey" / "odd.png")
    task = folders.adapt_to_folder(model, support)
    found = folders.predict_folder(model, task, query, evaluate=True)
    assert found.accuracy == pytest.approx(16 / 17)
    assert predictions.confusion_matrix(found).split("\n") == [
        "true \\ predicted  black  grey  white",
        "black                 8     0      0",
        "grey                  0     0      1",
        "white                 0     0      8",
    ]
    assert "accuracy 94.1 %" in predictions.summary(found)
    predictions.write_predictions(found, task, tmp_path / "out")
    assert (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0].startswith("file,label,truth,prob")


def test_no_cell_is_a_formula_and_paths_stay_paths(tmp_path):
    """A spreadsheet runs a cell that begins with one of these."""
    names = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "＝1", "a=b", "plain, with comma", "./=1")
    probabilities = np.eye(len(names), dtype=np.float32)
    files = [f"{name}.png" for name in names]
    task = AdaptedTask(np.zeros(1), names, np.zeros((len(names), 4, 4, 1), np.uint8), np.arange(len(names)))
    found = predictions.Predictions(files, probabilities, names, list(names), [], 0)
    predictions.write_predictions(found, task, tmp_path)
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [cell for row in rows for cell in (*row, *row.values())]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")) for cell in cells)
    for row, name, path in zip(rows, files, names, strict=True):
        assert (tmp_path / row["file"]) == tmp_path / name
        assert (tmp_path / row["label"]) == (tmp_path / row["truth"]) == tmp_path / path
        assert float(row[f"probability {row['label']}"]) == 1.0
    assert [row["file"] for row in rows][6:8] == files[6:8]


def test_the_sheet_has_the_names_of_the_files(model, support, query, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "tf_mamlpp.deploy.contact_sheet.draw_text", lambda draw, xy, text, *args, **_: drawn.append(text)
    )
    found = folders.predict_folder(model, folders.adapt_to_folder(model, support), query)
    predictions._draw(found, folders.adapt_to_folder(model, support))
    assert set(found.files) <= set(drawn)
