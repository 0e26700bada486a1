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
_WIDTH, _MARGIN, _GAP, _TOP = 1200, 32, 10, 84
_NAMES = 190  # the column of class names
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
        (1200, 418)
    """
    tasks = answers.hardest(count)
    columns = 2 if _answers_start(answers) + answers.right.shape[2] * (_CELL + 2 * _GAP) <= _panel_width(2) else 1
    rows = -(-len(tasks) // columns)
    height = 70 + answers.rows.shape[1] * (_CELL + _CAPTION + _GAP)
    sheet = Image.new("RGB", (_WIDTH, _TOP + rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    title = f"The hardest {len(tasks)} of {len(answers.rows)} tasks: {answers.bank.name}"
    draw_text(draw, (_MARGIN, 28), title, INK, 24, bold=True, room=_WIDTH - 2 * _MARGIN)
    width = _panel_width(columns)
    for place, task in enumerate(tasks):
        corner = _MARGIN + (place % columns) * (width + _MARGIN), _TOP + (place // columns) * height
        _task_panel(sheet, draw, corner, width, answers, task)
    return sheet


def _panel_width(columns: int) -> int:
    return (_WIDTH - (columns + 1) * _MARGIN) // columns


def _answers_start(answers: Answers) -> int:
    """Where the column of wrong answers begins, from the left of a task."""
    return _NAMES + min(answers.shot, _MOST_SUPPORT) * (_CELL + _GAP) + 16


def _task_panel(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, answers: Answers, task: int
) -> None:
    """One task: a headline, and a row for each class."""
    x, y = corner
    right, asked = answers.right[task].sum(), answers.right[task].size
    draw.line((x, y, x + width, y), LINE, 2)
    draw_text(draw, (x, y + 10), f"Task {task}", INK, 17, bold=True, room=_NAMES - 10)
    draw_text(draw, (x + width, y + 12), f"{right} of {asked} right", FAINT, 15, anchor="ra")
    draw_text(draw, (x + _NAMES, y + 12), "support", FAINT, 15)
    draw_text(draw, (x + _answers_start(answers), y + 12), "wrong, taken for", FAINT, 15)
    for place in range(answers.rows.shape[1]):
        _class_row(sheet, draw, (x, y + 46 + place * (_CELL + _CAPTION + _GAP)), width, answers, task, place)


def _class_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    width: int,
    answers: Answers,
    task: int,
    place: int,
) -> None:
    """One class of a task: its colour and name, its support pictures, and its query pictures that went wrong."""
    (x, y), names = corner, answers.bank.class_names
    middle = y + _CELL // 2
    classes, rows = answers.classes[task].tolist(), answers.rows[task, place]
    draw.rounded_rectangle((x, y, x + 8, y + _CELL), 4, _colour(place))
    _draw_name(draw, (x + 18, middle), names[classes[place]], INK, 15, _NAMES - 28, "lm")
    for i, picture in enumerate(_pictures(answers, rows[: answers.shot][:_MOST_SUPPORT])):
        paste(sheet, draw, x + _NAMES + i * (_CELL + _GAP), y, picture, _CELL)
    start, step = x + _answers_start(answers), _CELL + 2 * _GAP
    wrong = np.flatnonzero(~answers.right[task, place])
    if not len(wrong):
        draw_text(draw, (start, middle), "none", FAINT, 15, anchor="lm")
    room = (x + width - start) // step if len(wrong) * step <= x + width - start else (x + width - start - 40) // step
    for i, query in enumerate(wrong[:room]):
        left, taken_for = start + i * step, int(answers.predicted[task, place, query])
        picture = _pictures(answers, rows[[answers.shot + query]])[0]
        paste(sheet, draw, left, y, picture, _CELL)
        draw.rectangle((left - 3, y - 3, left + _CELL + 2, y + _CELL + 2), outline=WRONG, width=3)
        draw.rounded_rectangle((left, y + _CELL + 8, left + 8, y + _CELL + 20), 3, _colour(classes.index(taken_for)))
        _draw_name(draw, (left + 12, y + _CELL + 6), names[taken_for], WRONG, 12, _CELL - 2, "la")
    if len(wrong) > room:
        draw_text(draw, (x + width, middle), f"+{len(wrong) - room}", FAINT, 15, anchor="rm")


def _pictures(answers: Answers, rows: np.ndarray) -> np.ndarray:
    """Examples of the bank as pictures."""
    pictures = answers.bank.inputs.pictures(answers.bank.take(rows))
    assert pictures is not None, "hardest tasks are drawn of what can be shown"
    return pictures


def _draw_name(
    draw: ImageDraw.ImageDraw, xy: tuple[int, int], name: str, colour: str, size: int, room: int, anchor: str
) -> None:
    # The end of a path says most, the beginning of a name.
    draw_text(draw, xy, name, colour, size, room=room, keep_end="/" in name, anchor=anchor)


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
