"""Figures as files and as pixels."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tf_mamlpp.plotting import as_image, save


@pytest.fixture
def figure():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 1], color="black")
    return figure


def test_the_same_figure_is_the_same_file(figure, tmp_path):
    for folder in ("a", "b"):
        save(figure, tmp_path / folder, "line")
    files = sorted((tmp_path / "a").iterdir())
    assert [file.name for file in files] == ["line.png", "line.svg"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_an_image_has_the_figure_s_pixels(figure):
    image = as_image(figure)
    assert (image.shape, image.dtype) == ((100, 200, 3), np.uint8)
    assert image.min() == 0 and image.max() == 255
