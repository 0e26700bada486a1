"""The tasks of a test that went worst, as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tf_mamlpp.deploy.sheet_parts import COLOURS, FAINT, INK, LINE, WRONG, paste
from tf_mamlpp.deploy.sheet_text import draw_text
from tf_mamlpp.errors import writing
from tf_mamlpp.files import whole_file
from tf_mamlpp.training.answers import Answers

SHEET = "hardest_tasks.png"
"""The file that `write_hardest_tasks` writes."""

# All in pixels.
_WIDTH, _MARGIN, _GAP = 1200, 32, 10
_NAMES = 230  # the column of class names
_CELL, _CAPTION = 84, 22  # a picture's side, and the text below a wrong answer
_MOST_SUPPORT = 3  # pictures a class


def hardest_tasks(answers: Answers, count: int = 6) -> Image.Image:
    """Draws the tasks of lowest accuracy: of each class some support pictures, and the query pictures that went wrong.

    Args:
        answers: of a test.
        count: how many tasks.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> answers = Answers(bank, 1, np.array([[[2, 3], [0, 1]]]), np.array([[[1], [1]]]), np.array([[[0.9], [0.6]]]))
        >>> hardest_tasks(answers).size
        (1200, 410)
    """
    tasks = answers.hardest(count)
    way = answers.rows.shape[1]
    row, task_height = _CELL + _CAPTION + _GAP, 46 + way * (_CELL + _CAPTION + _GAP) + 16
    sheet = Image.new("RGB", (_WIDTH, 84 + len(tasks) * task_height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    title = f"The hardest {len(tasks)} of {len(answers.rows)} tasks: {answers.bank.name}"
    draw_text(draw, (_MARGIN, 28), title, INK, 24, bold=True, room=_WIDTH - 2 * _MARGIN)
    for place, task in enumerate(tasks):
        y = 84 + place * task_height
        right, asked = answers.right[task].sum(), answers.right[task].size
        draw.line((_MARGIN, y, _WIDTH - _MARGIN, y), LINE, 2)
        draw_text(draw, (_MARGIN, y + 10), f"Task {task}", INK, 17, bold=True)
        draw_text(draw, (_WIDTH - _MARGIN, y + 12), f"{right} of {asked} right", FAINT, 15, anchor="ra")
        draw_text(draw, (_support_end(answers), y + 12), "wrong answers", FAINT, 15)
        for c in range(way):
            _class_row(sheet, draw, y + 46 + c * row, answers, task, c)
    return sheet


def _support_end(answers: Answers) -> int:
    """Where the column of wrong answers begins."""
    return _MARGIN + _NAMES + min(answers.shot, _MOST_SUPPORT) * (_CELL + _GAP) + 24


def _class_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, y: int, answers: Answers, task: int, place: int) -> None:
    """One class of a task: its colour and name, its support pictures, and its query pictures that went wrong."""
    names, middle = answers.bank.class_names, y + _CELL // 2
    classes, rows = answers.classes[task].tolist(), answers.rows[task, place]
    draw.rounded_rectangle((_MARGIN, y, _MARGIN + 8, y + _CELL), 4, _colour(place))
    draw_text(
        draw, (_MARGIN + 22, middle), names[classes[place]], INK, 17, room=_NAMES - 40, keep_end=True, anchor="lm"
    )
    for i, picture in enumerate(answers.bank.take(rows[: answers.shot][:_MOST_SUPPORT])):
        paste(sheet, draw, _MARGIN + _NAMES + i * (_CELL + _GAP), y, picture, _CELL)
    start, step = _support_end(answers), _CELL + 2 * _GAP
    wrong = np.flatnonzero(~answers.right[task, place])
    if not len(wrong):
        draw_text(draw, (start, middle), "none", FAINT, 15, anchor="lm")
    room = (_WIDTH - _MARGIN - start - 40) // step
    for i, query in enumerate(wrong[:room]):
        x, taken_for = start + i * step, int(answers.predicted[task, place, query])
        paste(sheet, draw, x, y, answers.bank.take(rows[answers.shot + query : answers.shot + query + 1])[0], _CELL)
        draw.rectangle((x - 3, y - 3, x + _CELL + 2, y + _CELL + 2), outline=WRONG, width=3)
        draw.rounded_rectangle((x, y + _CELL + 8, x + 8, y + _CELL + 20), 3, _colour(classes.index(taken_for)))
        draw_text(draw, (x + 13, y + _CELL + 6), names[taken_for], WRONG, 12, room=_CELL - 8, keep_end=True)
    if len(wrong) > room:
        draw_text(draw, (_WIDTH - _MARGIN, middle), f"+{len(wrong) - room}", FAINT, 15, anchor="rm")


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def write_hardest_tasks(answers: Answers, folder: Path, count: int = 6) -> None:
    """Writes `hardest_tasks` as `hardest_tasks.png`.

    Args:
        answers: of a test.
        folder: made if it is missing.
        count: how many tasks.

    Raises:
        UserError: it cannot be written.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> answers = Answers(bank, 1, np.array([[[2, 3], [0, 1]]]), np.array([[[1], [1]]]), np.array([[[0.9], [0.6]]]))
        >>> write_hardest_tasks(answers, tmp_path)
        >>> [file.name for file in tmp_path.iterdir()]
        ['hardest_tasks.png']
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / SHEET) as part:
            hardest_tasks(answers, count).save(part, "PNG")
