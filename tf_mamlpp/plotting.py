"""One style for every figure, and figures as files and as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "tf_mamlpp",  # the same figure is the same file
    "svg.fonttype": "path",
}
"""Settings of matplotlib under which figures are made and drawn."""


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes a figure as `NAME.png` (150 dpi) and `NAME.svg`, without dates: the same figure gives the same files.

    Args:
        figure: made under `STYLE`.
        folder: made if it is missing.
        name: of the files, without suffix.

    Example:
        >>> save(Figure(), tmp_path, "empty")
        >>> sorted(file.name for file in tmp_path.iterdir())
        ['empty.png', 'empty.svg']
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_png(figure, folder / f"{name}.png")
    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def save_png(figure: Figure, file: Path) -> None:
    """Writes a figure as PNG (150 dpi), without a date.

    Args:
        figure: made under `STYLE`.
        file: to write.

    Example:
        >>> save_png(Figure(), tmp_path / "empty.png")
        >>> (tmp_path / "empty.png").exists()
        True
    """
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, dpi=150, metadata={"Software": None})


def as_image(figure: Figure) -> np.ndarray:
    """The pixels of a figure.

    Args:
        figure: made under `STYLE`.

    Returns:
        RGB, uint8 `[height, width, 3]`.

    Example:
        >>> as_image(Figure(figsize=(2, 1), dpi=100)).shape
        (100, 200, 3)
    """
    with matplotlib.rc_context(STYLE):
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
