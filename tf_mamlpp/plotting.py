"""One style for every figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.patches
import numpy as np
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


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `NAME.png` (150 dpi) and `NAME.svg`, without dates."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def as_image(figure: Figure) -> np.ndarray:
    """The figure's pixels, uint8 RGB `[height, width, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(STYLE):
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
