"""What all sheets of pictures have in common: their colours, and pictures in squares."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

INK, FAINT, LINE, RIGHT, WRONG = "#1b1b1f", "#6a6a72", "#e3e3e8", "#007a4d", "#c62828"
# Okabe and Ito's colours, which the colour-blind tell apart too; names are always written beside them.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00", "#555555")


def paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, picture: np.ndarray, size: int) -> None:
    """Draws the whole picture into the middle of a square, in its own proportions.

    Args:
        sheet, draw: to draw on.
        x, y: the square's corner.
        picture: uint8 `[H, W, 1 or 3]` of any size.
        size: of the square's side.

    Example:
        >>> sheet = Image.new("RGB", (40, 40), "white")
        >>> paste(sheet, ImageDraw.Draw(sheet), 4, 4, np.zeros((8, 8, 1), np.uint8), 32)
        >>> sheet.getpixel((20, 20))
        (0, 0, 0)
    """
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("RGB")
    scale = size / max(image.size)
    fitted = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    image = image.resize(fitted, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    draw.rectangle((x - 1, y - 1, x + size, y + size), "#f6f6f8", LINE)
    sheet.paste(image, (x + (size - image.width) // 2, y + (size - image.height) // 2))
