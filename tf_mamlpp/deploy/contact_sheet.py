"""A contact sheet: one picture of a task's support set and of the predictions for its query pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tf_mamlpp.deploy.sheet_parts import COLOURS, FAINT, INK, LINE, RIGHT, WRONG, paste
from tf_mamlpp.deploy.sheet_text import draw_text

# All in pixels.
_WIDTH, _MARGIN, _GAP = 1200, 32, 12
_NAMES = 210  # the column of class names
_CELL, _CAPTION = 112, 78  # a query picture's side, and the text below it
_SUPPORT_CELL = _CELL * 3 // 4


@dataclass(frozen=True)
class QueryPicture:
    """A query picture with its prediction.

    Attributes:
        image: uint8 `[H, W, 1 or 3]` of any size.
        label: the predicted class.
        probability: of that class, 0..1.
        truth: the true class, None where it is not known.
        file: the picture's path, of which the end is shown.
        known: of a picture that passes for one of no class, in 0..1 whether it is of any; shown in place of the
            probability.

    Example:
        >>> QueryPicture(np.zeros((28, 28, 1), np.uint8), "cat", 0.9).truth is None
        True
    """

    image: np.ndarray
    label: str
    probability: float
    truth: str | None = None
    file: str = ""
    known: float | None = None


def contact_sheet(
    title: str,
    support: Sequence[tuple[str, Sequence[np.ndarray]]],
    queries: Sequence[QueryPicture],
    left_out: int = 0,
    called: str = "pictures",
) -> Image.Image:
    """Draws a row of support pictures for each class, then the query pictures with label and confidence.

    Args:
        title: one line.
        support: class names with their pictures, uint8 `[H, W, 1 or 3]` of any size.
        queries: the query pictures, in the order in which they are shown.
        left_out: how many more query pictures there are.
        called: what the pictures are of.

    Example:
        >>> picture = np.zeros((28, 28, 1), np.uint8)
        >>> sheet = contact_sheet("Pets", [("cat", [picture])], [QueryPicture(picture, "cat", 0.9)])
        >>> sheet.size
        (1200, 550)
    """
    colours = {name: COLOURS[i % len(COLOURS)] for i, (name, _) in enumerate(support)}
    drawn = [colours[query.label] if query.known is None else FAINT for query in queries]
    columns = (_WIDTH - 2 * _MARGIN + _GAP) // (_CELL + _GAP)
    rows = -(-len(queries) // columns)
    support_step, query_step = _SUPPORT_CELL + _GAP, _CELL + _CAPTION + _GAP
    height = 150 + support_step * len(support) + 70 + rows * query_step + (36 if left_out else 0) + _MARGIN
    sheet = Image.new("RGB", (_WIDTH, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (_MARGIN, 28), title, INK, 24, bold=True, room=_WIDTH - 2 * _MARGIN)
    y = _heading(draw, 84, "Learned from", f"{sum(len(p) for _, p in support)} {called}, {len(support)} classes")
    for name, pictures in support:
        _support_row(sheet, draw, y, name, pictures, colours[name])
        y += support_step
    y = _heading(draw, y + 18, "Answers", f"{len(queries) + left_out} {called}")
    for i, query in enumerate(queries):
        x = _MARGIN + (i % columns) * (_CELL + _GAP)
        _query_cell(sheet, draw, x, y + (i // columns) * query_step, query, drawn[i])
    if left_out:
        text = f"… and {left_out} more in predictions.csv"
        draw_text(draw, (_MARGIN, y + rows * query_step + 6), text, FAINT, 15)
    return sheet


def _heading(draw: ImageDraw.ImageDraw, y: int, text: str, detail: str) -> int:
    draw.line((_MARGIN, y, _WIDTH - _MARGIN, y), LINE, 2)
    draw_text(draw, (_MARGIN, y + 10), text, INK, 17, bold=True)
    draw_text(draw, (_WIDTH - _MARGIN, y + 12), detail, FAINT, 15, anchor="ra")
    return y + 46


def _support_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    y: int,
    name: str,
    pictures: Sequence[np.ndarray],
    colour: str,
) -> None:
    size = _SUPPORT_CELL
    draw.rounded_rectangle((_MARGIN, y, _MARGIN + 8, y + size), 4, colour)
    draw_text(draw, (_MARGIN + 22, y + size // 2), name, INK, 17, room=_NAMES - 40, anchor="lm")
    room = (_WIDTH - _MARGIN - _MARGIN - _NAMES - 60) // (size + 8)
    for i, picture in enumerate(pictures[:room]):
        paste(sheet, draw, _MARGIN + _NAMES + i * (size + 8), y, picture, size)
    if len(pictures) > room:
        draw_text(draw, (_WIDTH - _MARGIN, y + size // 2), f"+{len(pictures) - room}", FAINT, 15, anchor="rm")


def _query_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, query: QueryPicture, colour: str
) -> None:
    paste(sheet, draw, x, y, query.image, _CELL)
    wrong = query.truth is not None and query.truth != query.label
    if query.truth is not None:
        draw.rectangle((x - 3, y - 3, x + _CELL + 2, y + _CELL + 2), outline=WRONG if wrong else RIGHT, width=3)
    is_known, share = query.known is None, query.probability if query.known is None else query.known
    draw_text(draw, (x, y + _CELL + 6), query.label, INK if is_known else FAINT, 14, bold=True, room=_CELL)
    bottom, room = y + _CELL + 27, _CELL - (46 if is_known else 80)
    text = f"{100 * share:.0f} %" if is_known else f"known {100 * share:.0f} %"
    draw_text(draw, (x + _CELL, bottom), text, FAINT, 12, anchor="ra")
    draw.rounded_rectangle((x, bottom + 4, x + room, bottom + 10), 3, LINE)
    draw.rounded_rectangle((x, bottom + 4, x + max(int(room * share), 6), bottom + 10), 3, colour)
    if query.file:
        draw_text(draw, (x, bottom + 17), query.file, FAINT, 11, room=_CELL, keep_end=True)
    if wrong:
        draw_text(draw, (x, bottom + 32), f"is {query.truth}", WRONG, 12, room=_CELL)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A picture shrunk to what the sheet needs, so that many can be kept in memory.

    Example:
        >>> thumbnail(np.zeros((3000, 1500, 3), np.uint8)).shape
        (224, 112, 3)
    """
    if max(picture.shape[:2]) <= 2 * _CELL:
        return picture
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    image.thumbnail((2 * _CELL, 2 * _CELL))
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
