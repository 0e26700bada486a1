"""The picture of a task: its classes, and what was guessed; the reliability plot."""

import numpy as np
import pytest

from tf_mamlpp.training.pictures import reliability_figure, task_picture

GREEN, RED = [0.1, 0.65, 0.25], [0.85, 0.15, 0.15]
CELL = 6 + 8  # pixels, a frame of 2 and a margin of 2 on either side


def draw(predicted):
    support = np.stack([np.full((6, 6, 1), v, np.float32) for v in (-1.0, 0.0, 1.0)])
    query = np.stack([np.full((6, 6, 1), v, np.float32) for v in (1.0, 0.0, -1.0)])
    labels = np.array([0, 1, 2])
    return task_picture(support, labels, query, labels[::-1], np.array(predicted))


def cell(picture, row, start):
    return picture[row * CELL : (row + 1) * CELL, start : start + CELL]


def test_rows_are_classes_with_support_query_and_the_guess():
    picture = draw([2, 1, 0])
    assert picture.shape == (3 * CELL, CELL + 8 + 2 * CELL, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    for row, shade in enumerate([0.0, 0.5, 1.0]):
        for start in (0, CELL + 8):
            np.testing.assert_allclose(cell(picture, row, start)[4:-4, 4:-4], shade, atol=1e-6)
        np.testing.assert_allclose(cell(picture, row, CELL + 8)[2, 2:-2], [GREEN] * 10, rtol=1e-6)
        np.testing.assert_array_equal(cell(picture, row, CELL + 8 + CELL), 1.0)


def test_a_wrong_answer_is_red_beside_the_class_that_was_guessed():
    picture = draw([2, 2, 0])  # the second query picture is of class 1
    wrong = cell(picture, 1, CELL + 8)
    np.testing.assert_allclose(wrong[2, 2:-2], [RED] * 10, rtol=1e-6)
    assert (cell(picture, 1, 2 * CELL + 8)[4:-4, 4:-4] < 1).all()
    np.testing.assert_allclose(cell(picture, 0, CELL + 8)[2, 2], GREEN, rtol=1e-6)
    np.testing.assert_allclose(cell(picture, 2, CELL + 8)[2, 2], GREEN, rtol=1e-6)


def test_colour_pictures_and_flat_ones():
    colour = np.zeros((1, 6, 6, 3), np.float32)
    label = np.array([0])
    assert np.isfinite(task_picture(colour, label, colour, label, label)).all()


def test_the_reliability_plot_draws_what_it_is_given():
    """Three of four answers are right, at 0.88 and, calibrated, at 0.75: on the diagonal."""
    figure = reliability_figure(np.repeat([[2.0, 0.0]], 4, 0), np.array([0, 0, 0, 1]), 2 / np.log(3))
    before, after = figure.axes[:2]
    heights = [[bar.get_height() for bar in panel.patches if bar.get_height()] for panel in (before, after)]
    assert heights == [[0.75], [0.75]]
    assert np.nanmax(after.lines[0].get_xdata()) == pytest.approx(0.75)
    assert "calibration error 13.1 %" in before.get_title() and "calibration error 0.0 %" in after.get_title()
