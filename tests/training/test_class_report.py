"""Confusion matrices, counted by hand, and the pictures of them."""

import csv

import numpy as np
import pytest

from tf_mamlpp.config import Data
from tf_mamlpp.data import ImageBank
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.answers import Answers, answers_of
from tf_mamlpp.training.class_report import chances, confusions, matrix_figure, write_class_report


@pytest.fixture
def answers():
    """Two tasks of two of three classes, with two query pictures each, of a bank of four pictures a class.

    Task 0 is of c and a: both pictures of c are right, one of a is taken for c.
    Task 1 is of a and b: both of a are taken for b, both of b are right.
    """
    bank = ImageBank(np.zeros((12, 8, 8, 1), np.uint8), np.array([0, 4, 8, 12]), ("a", "=b", "c"), "letters test")
    rows = np.array([[[8, 9, 10], [0, 1, 2]], [[3, 0, 1], [7, 6, 5]]])
    predicted = np.array([[[2, 2], [2, 0]], [[1, 1], [1, 1]]])
    return Answers(bank, 1, rows, predicted, np.full((2, 2, 2), 0.75))


def table(file):
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def test_counts_by_hand(answers):
    assert answers.classes.tolist() == [[2, 0], [0, 1]]
    assert confusions(answers).tolist() == [[1, 2, 1], [0, 2, 0], [0, 0, 2]]
    assert chances(answers).tolist() == [[4, 2, 2], [2, 2, 0], [2, 0, 2]]
    assert answers.accuracies.tolist() == [0.75, 0.5]
    assert answers.hardest(5) == [1, 0]


def test_tables_have_all_classes_and_no_formula(answers, tmp_path):
    write_class_report(answers, tmp_path / "report")
    assert table(tmp_path / "report/confusion_matrix.csv") == [
        ["true", "a", "./=b", "c"],
        ["a", "1", "2", "1"],
        ["./=b", "0", "2", "0"],
        ["c", "0", "0", "2"],
    ]
    assert table(tmp_path / "report/class_accuracy.csv") == [
        ["class", "tasks", "pictures", "right", "accuracy", "most_taken_for", "times"],
        ["a", "2", "4", "1", "0.2500", "./=b", "2"],
        ["./=b", "1", "2", "2", "1.0000", "", "0"],
        ["c", "1", "2", "2", "1.0000", "", "0"],
    ]
    assert (tmp_path / "report/confusion_matrix.png").read_bytes()[:4] == b"\x89PNG"


def test_the_picture_has_shares_of_what_could_have_been(answers):
    axes = matrix_figure(confusions(answers), chances(answers), answers.bank.class_names).axes[0]
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "25", (0, 1): "100", (0, 2): "50", (1, 0): "0", (1, 1): "100", (2, 0): "0", (2, 2): "100"}


def test_of_many_classes_the_most_confused_pairs_are_shown():
    counts = 10 * np.eye(50, dtype=np.int64)
    counts[40, 3], counts[7, 41], counts[3, 40] = 5, 4, 3
    axes = matrix_figure(counts, np.full((50, 50), 10), tuple(f"class {n}" for n in range(50))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 3", "class 40", "class 7", "class 41"]
    assert "the 4 of 50 classes that are confused most" in axes.get_title(loc="left")
    axes = matrix_figure(10 * np.eye(50), np.full((50, 50), 10), tuple(map(str, range(50)))).axes[0]
    assert len(axes.get_yticklabels()) == 30


def test_the_answers_are_those_of_the_drawn_tasks():
    """A network that reads the class off the picture is always right."""
    bank = ImageBank(
        np.repeat(np.arange(6, dtype=np.uint8), 5)[:, None, None, None], np.arange(0, 31, 5), tuple("abcdef"), "x"
    )
    d = Data(way=3, shot=2, query_shot=3)
    perfect = np.eye(3)[np.arange(3).repeat(3)]
    found = answers_of(d, bank, "test", [np.stack([perfect] * 4), np.stack([np.roll(perfect, 1, -1)] * 2)])
    assert found.accuracies.tolist() == [1, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(bank.images[found.rows][..., 0, 0, 0], found.classes[..., None].repeat(5, -1))
    np.testing.assert_array_equal(found.predicted[4], np.roll(found.classes[4], -1)[:, None].repeat(3, -1))


def test_a_folder_that_cannot_be_written(answers, tmp_path):
    (tmp_path / "report").touch()
    with pytest.raises(UserError, match="cannot write in"):
        write_class_report(answers, tmp_path / "report")
