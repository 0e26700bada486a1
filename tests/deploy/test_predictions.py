import pytest
from PIL import Image

from tf_mamlpp.deploy import folders, predictions


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
