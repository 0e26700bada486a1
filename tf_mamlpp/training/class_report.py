"""Which classes a test took for which: counts, accuracy by class, and the confusion matrix as table and picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tf_mamlpp.errors import writing
from tf_mamlpp.files import whole_file
from tf_mamlpp.plotting import STYLE
from tf_mamlpp.text import csv_cell
from tf_mamlpp.training.answers import Answers

MATRIX, PICTURE, ACCURACY = "confusion_matrix.csv", "confusion_matrix.png", "class_accuracy.csv"
"""The files that `write_class_report` writes."""

_SHOWN = 30  # classes of the picture


def confusions(answers: Answers) -> np.ndarray:
    """How often each class was taken for each, over all tasks.

    Returns:
        Counts of query pictures, int `[classes, classes]`: a row for each true class, a column for each predicted one.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> answers = Answers(bank, 1, np.array([[[2, 3], [0, 1]]]), np.array([[[1], [1]]]), np.array([[[0.9], [0.6]]]))
        >>> confusions(answers).tolist()
        [[0, 1], [0, 1]]
    """
    counts = np.zeros((len(answers.bank.class_names),) * 2, np.int64)
    np.add.at(counts, (answers.classes[:, :, None], answers.predicted), 1)
    return counts


def chances(answers: Answers) -> np.ndarray:
    """How often each class could have been taken for each: query pictures in tasks that had both classes.

    A task has few of all classes, so that the count of a confusion alone says little about how alike two classes are.

    Returns:
        Like `confusions`; on the diagonal, all query pictures of the class.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> answers = Answers(bank, 1, np.array([[[2, 3], [0, 1]]]), np.array([[[1], [1]]]), np.array([[[0.9], [0.6]]]))
        >>> chances(answers).tolist()
        [[1, 1], [1, 1]]
    """
    counts = np.zeros((len(answers.bank.class_names),) * 2, np.int64)
    classes = answers.classes
    np.add.at(counts, (classes[:, :, None], classes[:, None, :]), answers.predicted.shape[-1])
    return counts


def write_class_report(answers: Answers, folder: Path) -> None:
    """Writes the confusion matrix as a table and as a picture, and the accuracy of each class.

    `confusion_matrix.csv` has the counts of all classes, `class_accuracy.csv` a line for each class that was tested.
    The picture shows the 30 classes that were confused most where there are more.

    Args:
        answers: of a test.
        folder: made if it is missing.

    Raises:
        UserError: it cannot be written.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> answers = Answers(bank, 1, np.array([[[2, 3], [0, 1]]]), np.array([[[1], [1]]]), np.array([[[0.9], [0.6]]]))
        >>> write_class_report(answers, tmp_path / "report")
        >>> (tmp_path / "report" / "confusion_matrix.csv").read_text().split()
        ['true,ant,bee', 'ant,0,1', 'bee,0,1']
    """
    names, counts = answers.bank.class_names, confusions(answers)
    cells = [csv_cell(name) for name in names]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        rows = ([cell, *row.tolist()] for cell, row in zip(cells, counts, strict=True))
        _write_table(folder / MATRIX, [["true", *cells], *rows])
        header = ["class", "tasks", answers.bank.inputs.kind.examples, "right", "accuracy", "most_taken_for", "times"]
        _write_table(folder / ACCURACY, [header, *_class_rows(answers, counts, cells)])
        figure = matrix_figure(counts, chances(answers), names, title=answers.bank.name)
        with whole_file(folder / PICTURE) as part, matplotlib.rc_context(STYLE):
            figure.savefig(part, format="png", dpi=150, metadata={"Software": None})


def _write_table(file: Path, rows: Iterable[list[Any]]) -> None:
    # Names of files need not be text: bytes that are none are written as \xff.
    options: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with whole_file(file) as part, open(part, "w", **options) as table:
        csv.writer(table).writerows(rows)


def _class_rows(answers: Answers, counts: np.ndarray, cells: list[str]) -> Iterable[list[Any]]:
    """The accuracy of each class that was tested, and what it was taken for most often."""
    tasks = np.bincount(answers.classes.ravel(), minlength=len(cells))
    for c in np.flatnonzero(tasks):
        pictures, right = counts[c].sum(), counts[c, c]
        wrong = np.where(np.arange(len(cells)) == c, 0, counts[c])
        most = wrong.argmax()
        taken_for = [cells[most], wrong[most]] if wrong[most] else ["", 0]
        yield [cells[c], tasks[c], pictures, right, f"{right / pictures:.4f}", *taken_for]


def matrix_figure(counts: np.ndarray, possible: np.ndarray, names: tuple[str, ...], title: str = "") -> Figure:
    """The confusion matrix as a picture: a row for each true class, a column for each predicted one.

    A cell has the share of the row's pictures that were taken for the column's class, of those in tasks that had both
    classes; the diagonal is the accuracy of a class.  Cells of classes that never met are hatched.

    Args:
        counts, possible: as `confusions` and `chances` give them.
        names: of the classes.
        title: above the picture.

    Example:
        >>> counts = np.array([[9, 1], [0, 10]])
        >>> figure = matrix_figure(counts, np.full((2, 2), 10), ("ant", "bee"), "insects test")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['90', '10', '0', '100']
    """
    shown = _most_confused(counts)
    met = possible[np.ix_(shown, shown)]
    shares = np.where(met > 0, 100 * counts[np.ix_(shown, shown)] / np.maximum(met, 1), np.nan)
    labels = [_short(names[c]) for c in shown]
    side = 0.34 * max(len(shown), 6)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side + 2.6, side + 2.0), layout="constrained")
        axes = figure.subplots()
        picture = _draw_shares(axes, shares)
        axes.set_xticks(range(len(shown)), labels, rotation=90)
        axes.set_yticks(range(len(shown)), labels)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        part = f"the {len(shown)} of {_tested(counts).size} classes that are confused most" if _is_part(counts) else ""
        never = "hatched: never in one task" if np.isnan(shares).any() else ""
        axes.set_title("\n".join(filter(None, [title, part, never])), loc="left")
        label = "% of the pictures of the true class,\nin tasks that had both classes"
        figure.colorbar(picture, ax=axes, label=label, shrink=min(1.0, 2.4 / side + 0.2))
    return figure


def _draw_shares(axes: Any, shares: np.ndarray) -> Any:
    """Cells with their numbers; of a large matrix without the zeros, and what is not a number hatched."""
    axes.patch.set(facecolor="#f3f3f5", hatch="////", edgecolor="#d5d5da")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share) and (share >= 0.5 or len(shares) <= 12 or row == column):
            colour = "white" if share > 60 else "#1b1b1f"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=7)
    return axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)


def _tested(counts: np.ndarray) -> np.ndarray:
    return np.flatnonzero(counts.sum(1))


def _is_part(counts: np.ndarray) -> bool:
    return _tested(counts).size > _SHOWN


def _most_confused(counts: np.ndarray) -> list[int]:
    """All tested classes; of too many those of the pairs that were confused most, the two of a pair side by side."""
    if not _is_part(counts):
        return _tested(counts).tolist()
    both = np.triu(counts + counts.T, 1)
    chosen: dict[int, None] = {}
    for pair in np.argsort(-both, axis=None, kind="stable"):
        row, column = divmod(int(pair), len(counts))
        if len(chosen) >= _SHOWN or not both[row, column]:
            break
        chosen |= dict.fromkeys((row, column))
    rest = _tested(counts).tolist() if not chosen else []  # nothing was confused
    return [*chosen, *rest][:_SHOWN]


def _short(name: str, room: int = 26) -> str:
    """A class's name for a label: the end of a path says most."""
    text = " ".join(name.encode("utf-8", "backslashreplace").decode().split()).replace("$", r"\$")
    return text if len(text) <= room else f"…{text[1 - room :]}"
