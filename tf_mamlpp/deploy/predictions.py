"""What was predicted of query pictures, told and drawn."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tf_mamlpp.deploy.contact_sheet import Answer, contact_sheet
from tf_mamlpp.deploy.deployed_model import Learned
from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class Predictions:
    """What was said of query pictures.

    Attributes:
        files: their paths below the query folder.
        probabilities: `[Q, classes]` float32.
        class_names: class c's name.
        truths: the class folder of each, None without `evaluate`.
        shown: the first pictures, to be drawn.
        skipped: how many could not be read.
    """

    files: list[str]
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    truths: list[str] | None
    shown: list[np.ndarray]
    skipped: int

    @property
    def labels(self) -> list[str]:
        """The most probable class of each."""
        return [self.class_names[c] for c in self.probabilities.argmax(-1)]

    @property
    def accuracy(self) -> float:
        """The part of the pictures whose class was predicted, 0..1."""
        return float(np.mean([a == b for a, b in zip(self.labels, self.truths or (), strict=True)]))


def write_predictions(found: Predictions, learned: Learned, output: Path) -> None:
    """Writes `predictions.csv` and `contact_sheet.png` into `output`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        # A name that is no text is written with its bytes spelled out.
        options: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
        with open(output / "predictions.csv", "w", **options) as file:
            table = csv.writer(file)
            truth = ["truth"] if found.truths else []
            table.writerow(["file", "label", *truth, *(f"probability {name}" for name in found.class_names)])
            for i, (name, label) in enumerate(zip(found.files, found.labels, strict=True)):
                said = [found.truths[i]] if found.truths else []
                table.writerow([name, label, *said, *(f"{p:.6f}" for p in found.probabilities[i])])
        _sheet(found, learned).save(output / "contact_sheet.png")
    except OSError as error:
        raise UserError(f"'{output}' cannot be written: {error.strerror or error}; choose another output") from error


def _sheet(found: Predictions, learned: Learned) -> Image.Image:
    support = [(name, list(learned.images[learned.labels == label])) for label, name in enumerate(learned.class_names)]
    best = found.probabilities.max(-1)
    answers = [
        Answer(image, found.labels[i], float(best[i]), found.truths[i] if found.truths else None)
        for i, image in enumerate(found.shown)
    ]
    order = {name: i for i, name in enumerate(found.class_names)}
    answers.sort(key=lambda a: (order[a.label], -a.probability))
    return contact_sheet(_headline(found), support, answers, left_out=len(found.files) - len(answers))


def one_line(name: str) -> str:
    """A class or file name as the terminal can show it."""
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split())


def _headline(found: Predictions) -> str:
    skipped = f" ({found.skipped} skipped)" if found.skipped else ""
    right = f", accuracy {100 * found.accuracy:.1f} %" if found.truths else ""
    many = "picture" if len(found.files) == 1 else "pictures"
    return (
        f"{len(found.files)} {many}{skipped}, mean confidence {100 * found.probabilities.max(-1).mean():.0f} %{right}"
    )


def summary(found: Predictions) -> str:
    """One line: how many pictures got which label, and how sure the model was."""
    counts = Counter(found.labels)
    return f"{_headline(found)}: " + ", ".join(
        f"{one_line(name)} × {counts[name]}" for name in found.class_names if counts[name]
    )


def confusion_matrix(found: Predictions) -> str:
    """A row a true class, a column a predicted one, as text."""
    assert found.truths is not None
    counts = Counter(zip(found.truths, found.labels, strict=True))
    names = [name if len(name) <= 16 else name[:15] + "…" for name in map(one_line, found.class_names)]
    left = max(map(len, [*names, "true \\ predicted"]))
    widths = [max(len(name), 4) for name in names]
    lines = ["  ".join(["true \\ predicted".ljust(left), *(n.rjust(w) for n, w in zip(names, widths, strict=True))])]
    for name, true in zip(names, found.class_names, strict=True):
        row = [str(counts[true, said]) for said in found.class_names]
        lines.append("  ".join([name.ljust(left), *(n.rjust(w) for n, w in zip(row, widths, strict=True))]))
    return "\n".join(lines)
