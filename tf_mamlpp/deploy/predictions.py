"""The predictions for query pictures, as a table, a contact sheet and text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.kinds import PICTURES, Kind
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.contact_sheet import QueryPicture, contact_sheet
from tf_mamlpp.errors import UserError
from tf_mamlpp.text import csv_cell

TABLE, SHEET = "predictions.csv", "contact_sheet.png"
"""The files that `write_predictions` writes."""

UNKNOWN = "unknown"
"""The label of a picture that is probably of no class."""


@dataclass(frozen=True)
class Predictions:
    """The predictions for query pictures, or for other examples.

    Attributes:
        files: the pictures' paths below the query folder, or the names of other examples.
        probabilities: `[Q, classes]` float32.
        class_names: the name of each class.
        truths: the true class of each picture, None where it is not known.
        shown: the first pictures, for the contact sheet; empty where examples cannot be shown.
        skipped: how many pictures could not be read.
        known: `[Q]`, in 0..1 whether a picture is of any class; None where each gets the label of a class.
        threshold: below which it is not.
        inputs: what an example is to the model; None for pictures.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
        >>> predictions = Predictions(["0.png", "1.png"], probabilities, ("cat", "dog"), ["cat", "dog"], [], 0)
        >>> predictions.labels, predictions.accuracy
        (['cat', 'cat'], 0.5)
    """

    files: list[str]
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    truths: list[str] | None
    shown: list[np.ndarray]
    skipped: int
    known: np.ndarray | None = None
    threshold: float | None = None
    inputs: InputFormat | None = None

    @property
    def kind(self) -> Kind:
        """What the examples are."""
        return self.inputs.kind if self.inputs else PICTURES

    @property
    def rejected(self) -> np.ndarray:
        """Whether each picture passes for one of no class, `[Q]`."""
        if self.known is None or self.threshold is None:
            return np.zeros(len(self.probabilities), bool)
        return np.asarray(self.known) < self.threshold

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels that there can be."""
        return self.class_names if self.known is None else (*self.class_names, UNKNOWN)

    @property
    def labels(self) -> list[str]:
        """The most probable class of each picture, or `unknown`."""
        answers = zip(self.probabilities.argmax(-1), self.rejected, strict=True)
        return [UNKNOWN if rejected else self.class_names[c] for c, rejected in answers]

    @property
    def accuracy(self) -> float:
        """The share of the pictures whose true class was predicted, 0..1."""
        return float(np.mean([a == b for a, b in zip(self.labels, self.truths or (), strict=True)]))


def write_predictions(predictions: Predictions, task: AdaptedTask, output: Path) -> None:
    """Writes `predictions.csv`, and of pictures `contact_sheet.png`.

    Args:
        predictions: of the query pictures.
        task: what the model had adapted to, whose support set the sheet shows.
        output: a folder, made if it is missing.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> task = AdaptedTask(np.zeros(1), ("cat",), np.zeros((1, 8, 8, 1), np.uint8), np.array([0]))
        >>> predictions = Predictions(["0.png"], np.array([[1.0]]), ("cat",), None, [np.zeros((9, 9, 1), np.uint8)], 0)
        >>> write_predictions(predictions, task, tmp_path)
        >>> (tmp_path / "predictions.csv").read_text().split()
        ['file,label,probability', 'cat', '0.png,cat,1.000000']
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Names of files need not be text: bytes that are none are written as \xff.
        options: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
        with open(output / TABLE, "w", **options) as file:
            table = csv.writer(file)
            truth = ["truth"] if predictions.truths else []
            classes = {name: csv_cell(name) for name in predictions.label_names}
            of_classes = [f"probability {classes[name]}" for name in predictions.class_names]
            known = [] if predictions.known is None else [[f"{value:.6f}"] for value in predictions.known]
            first = "file" if predictions.kind.suffixes else predictions.kind.example
            table.writerow([first, "label", *truth, *(["known"] if known else []), *of_classes])
            for i, (name, label) in enumerate(zip(predictions.files, predictions.labels, strict=True)):
                truth = [classes[predictions.truths[i]]] if predictions.truths else []
                numbers = [*(known[i] if known else []), *(f"{p:.6f}" for p in predictions.probabilities[i])]
                table.writerow([csv_cell(name), classes[label], *truth, *numbers])
        if predictions.shown:
            _draw(predictions, task).save(output / SHEET)
    except OSError as error:
        raise UserError(f"'{output}' cannot be written: {error.strerror or error}; choose another output") from error


def _draw(predictions: Predictions, task: AdaptedTask) -> Image.Image:
    learned = predictions.inputs.pictures(task.images) if predictions.inputs else task.images
    assert learned is not None, "a sheet is drawn of what can be shown"
    support = [(name, list(learned[task.labels == label])) for label, name in enumerate(task.class_names)]
    labels, confidences = predictions.labels, predictions.probabilities.max(-1)
    truths: Sequence[str | None] = predictions.truths or [None] * len(labels)
    known = predictions.known
    queries = [
        QueryPicture(
            image,
            labels[i],
            float(confidences[i]),
            truths[i],
            predictions.files[i],
            float(known[i]) if known is not None and predictions.rejected[i] else None,
        )
        for i, image in enumerate(predictions.shown)
    ]
    order = {name: i for i, name in enumerate(predictions.label_names)}
    queries.sort(key=lambda query: (order[query.label], -query.probability))
    left_out, called = len(predictions.files) - len(queries), predictions.kind.examples
    return contact_sheet(_headline(predictions), support, queries, left_out, called)


def one_line(name: str) -> str:
    """A class or file name as the terminal can show it.

    Example:
        >>> one_line("two\\nlines")
        'two lines'
    """
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split())


def _headline(predictions: Predictions) -> str:
    pictures = _counted(len(predictions.files), predictions.kind)
    skipped = f" ({predictions.skipped} skipped)" if predictions.skipped else ""
    confidence = 100 * predictions.probabilities.max(-1).mean()
    accuracy = f", accuracy {100 * predictions.accuracy:.1f} %" if predictions.truths else ""
    rejected = f", {predictions.rejected.sum()} unknown" if predictions.known is not None else ""
    return f"{pictures}{skipped}, mean confidence {confidence:.0f} %{rejected}{accuracy}"


def _counted(count: int, kind: Kind) -> str:
    return f"{count} {kind.example if count == 1 else kind.examples}"


def summary(predictions: Predictions) -> str:
    """One line: how many examples got which label, and how confident the model was.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3]])
        >>> summary(Predictions(["0.png", "1.png"], probabilities, ("cat", "dog"), None, [], 0))
        '2 pictures, mean confidence 80 %: cat × 2'
    """
    counts = Counter(predictions.labels)
    return f"{_headline(predictions)}: " + ", ".join(
        f"{one_line(name)} × {counts[name]}" for name in predictions.label_names if counts[name]
    )


def change(before: Predictions, after: Predictions) -> str:
    """One line: the accuracy on the classes of before, then and now.

    Args:
        before: of pictures of classes that both know.
        after: of the same pictures, and maybe of others.

    Example:
        >>> before = Predictions(["0.png"], np.array([[0.9, 0.1]]), ("cat", "dog"), ["cat"], [], 0)
        >>> after = Predictions(["0.png"], np.array([[0.2, 0.1, 0.7]]), ("cat", "dog", "cow"), ["cat"], [], 0)
        >>> change(before, after)
        'accuracy on the 2 classes of before: 100.0 %, now 0.0 % (1 picture)'
    """
    assert before.truths is not None and after.truths is not None
    files = set(before.files)
    pairs = zip(after.files, after.labels, after.truths, strict=True)
    now = float(np.mean([label == truth for file, label, truth in pairs if file in files]))
    kept = [name for name in before.class_names if name in after.class_names]
    return (
        f"accuracy on the {len(kept)} classes of before: {100 * before.accuracy:.1f} %, now {100 * now:.1f} % "
        f"({_counted(len(files), after.kind)})"
    )


def confusion_matrix(predictions: Predictions) -> str:
    """The counts of true and predicted classes as text, a row for each true class, a column for each predicted one.

    Example:
        >>> predictions = Predictions(["0.png"], np.array([[0.1, 0.9]]), ("cat", "dog"), ["cat"], [], 0)
        >>> print(confusion_matrix(predictions))
        true \\ predicted   cat   dog
        cat                  0     1
        dog                  0     0
    """
    assert predictions.truths is not None
    counts = Counter(zip(predictions.truths, predictions.labels, strict=True))
    names = [name if len(name) <= 16 else name[:15] + "…" for name in map(one_line, predictions.label_names)]
    first_width = max(map(len, [*names, "true \\ predicted"]))
    widths = [max(len(name), 4) for name in names]

    def line(first: str, cells: list[str]) -> str:
        return "  ".join([first.ljust(first_width), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))])

    lines = [line("true \\ predicted", names)]
    for name, truth in zip(names, predictions.label_names, strict=True):
        lines.append(line(name, [str(counts[truth, label]) for label in predictions.label_names]))
    return "\n".join(lines)
