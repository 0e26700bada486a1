"""Teaching a deployed model from a folder, and asking it about another: the work of `bin/adapt.py`."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tf_mamlpp.contact_sheet import Answer, contact_sheet, thumbnail
from tf_mamlpp.data.baseline import nearest_pixel_accuracy
from tf_mamlpp.data.episodes import check_bank, sample_task
from tf_mamlpp.data.folders import SUFFIXES, class_folders, walk
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.images import decode_file, resize
from tf_mamlpp.deployed import DeployedModel, Learned
from tf_mamlpp.errors import UserError

_CHUNK = 256  # pictures decoded at once
_SHEET = 150  # query pictures on the contact sheet


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


# --- Reading pictures -------------------------------------------------------------------------------------


def _read(files: Iterable[Path], model: DeployedModel) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Each picture that can be read: file, the picture as it is, and as the model takes it; others are named."""
    for file in files:
        try:
            picture = decode_file(file, model.channels)
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        sized = resize(picture, model.image_size, model.resize_policy)
        yield file, picture, sized.numpy().astype(np.uint8)


def _tree(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds a folder of pictures for each class")
    classes = class_folders(folder)
    if not classes:
        raise UserError(
            f"'{folder}' has no class folders with pictures: put each class's pictures in a folder of its own"
        )
    return classes


def _query_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds the pictures to classify")
    files = sorted(Path(top, name) for top, names in walk(folder) for name in names)
    if not files:
        raise UserError(f"'{folder}' has no pictures ({', '.join(SUFFIXES)})")
    return files


# --- Learning and answering -----------------------------------------------------------------------------


def learn_folder(model: DeployedModel, folder: Path) -> Learned:
    """Learns the class folders of `folder`; a picture that cannot be read is named and left out.

    Raises:
        UserError: no class folders, more than the model has outputs, or a class without a readable picture.
    """
    classes = _tree(folder)
    if len(classes) > model.way:
        raise UserError(
            f"'{folder}' has {len(classes)} class folders, and the model tells {model.way} apart: leave out "
            f"{len(classes) - model.way}, or train one with --config.data.way={len(classes)}"
        )
    images, labels = [], []
    for label, (name, files) in enumerate(classes.items()):
        pictures = [sized for _, _, sized in _read(files, model)]
        if not pictures:
            raise UserError(f"no picture of class '{name}' in '{folder}' can be read: replace them or remove the class")
        images += pictures
        labels += [label] * len(pictures)
    return model.learn(np.stack(images), np.array(labels, np.int32), tuple(classes))


def classify_folder(model: DeployedModel, learned: Learned, folder: Path, evaluate: bool = False) -> Predictions:
    """Classifies the pictures below `folder`; one that cannot be read is named and left out.

    Args:
        model: what learned.
        learned: the task.
        folder: of pictures, in subfolders or not.
        evaluate: whether the class folders in it say what its pictures are.

    Raises:
        UserError: no picture, or none that can be read; with `evaluate`, a class that was not learned.
    """
    files, truth_of = _query_files(folder), {}
    if evaluate:
        truth_of = {file: name for name, inside in _tree(folder).items() for file in inside}
        unknown = sorted(set(truth_of.values()) - set(learned.class_names))
        if unknown:
            raise UserError(
                f"'{folder}' has class '{unknown[0]}', which was not learned ({', '.join(learned.class_names)})"
            )
        loose = [file for file in files if file not in truth_of]
        if loose:
            print(f"skipped: {len(loose)} pictures in no class folder, such as {loose[0]}", file=sys.stderr)
        files = sorted(truth_of)
    found: list[Path] = []
    shown: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    # Under `batch` statistics the pictures are one another's context, and must come at once.
    together = len(files) if model.query_statistics == "batch" else _CHUNK
    for file, picture, sized in _read(files, model):
        found.append(file)
        waiting.append(sized)
        if len(shown) < _SHEET:
            shown.append(thumbnail(picture))
        if len(waiting) == together:
            probabilities.append(model.answer(learned, np.stack(waiting)))
            waiting = []
    if not found:
        raise UserError(f"none of the {len(files)} pictures in '{folder}' can be read")
    if waiting:
        probabilities.append(model.answer(learned, np.stack(waiting)))
    return Predictions(
        [file.relative_to(folder).as_posix() for file in found],
        np.concatenate(probabilities),
        learned.class_names,
        [truth_of[file] for file in found] if evaluate else None,
        shown,
        len(files) - len(found),
    )


# --- Telling ---------------------------------------------------------------------------------------------


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


# --- Trials: how well will it do on these classes? -----------------------------------------------------------


def trials(
    model: DeployedModel, folder: Path, *, way: int, shot: int, query_shot: int, count: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Random choices of classes and of support pictures from a pool of class folders, each learned and tested.

    Args:
        model: the deployed model.
        folder: class folders, of which each trial takes `way`.
        way, shot, query_shot: classes a trial, and support and query pictures a class.
        count: how many trials.
        seed: of the choices.

    Returns:
        `accuracy` and, of naming each picture after the support picture with the nearest pixels, `nearest_pixel`: the
        mean over trials and half the width of its 95 % interval.
    """
    if way > model.way:
        raise UserError(f"trials of {way} classes for a {model.way}-way model: give --way={model.way} or fewer")
    bank = _bank(model, folder)
    check_bank(bank, way, shot, query_shot)
    names = [str(c) for c in range(way)]
    accuracies = []
    for index in range(count):
        task = sample_task(bank, way=way, shot=shot, query_shot=query_shot, seed=seed, split="test", index=index)
        learned = model.learn(task["support_images"], task["support_labels"], names)
        accuracies.append(np.mean(model.answer(learned, task["query_images"]).argmax(-1) == task["query_labels"]))
    spread = np.std(accuracies, ddof=1) if count > 1 else 0.0
    return {
        "accuracy": (float(np.mean(accuracies)), float(1.96 * spread / np.sqrt(count))),
        "nearest_pixel": nearest_pixel_accuracy(
            bank, way=way, shot=shot, query_shot=query_shot, tasks=count, seed=seed, split="test"
        ),
    }


def _bank(model: DeployedModel, folder: Path) -> ImageBank:
    names: list[str] = []
    images: list[np.ndarray] = []
    offsets = [0]
    for name, files in _tree(folder).items():
        images += [sized for _, _, sized in _read(files, model)]
        names.append(name)
        offsets.append(len(images))
    if not images:
        raise UserError(f"no picture in '{folder}' can be read")
    return ImageBank(np.stack(images), np.array(offsets), tuple(names), f"{folder} pool")
