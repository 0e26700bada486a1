"""The classes that a run was trained and tested on: kept in its folder, and compared with the data ever after."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_mamlpp.data.bank import Bank, class_hashes
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLITS, SplitFile, same_name
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import write_json

_NAME = "classes.json"

_SHOWN = 3  # classes of each kind that an error names


def classes_file(workdir: Path) -> Path:
    """Where a run keeps its classes: a split file, with the pictures of each class beside the lists.

    Example:
        >>> classes_file(Path("runs/one")).as_posix()
        'runs/one/classes.json'
    """
    return workdir / _NAME


def is_classes_file(split_file: str | None, workdir: Path) -> bool:
    """Whether a `data.split_file` is the run's own.

    Example:
        >>> _ = classes_file(tmp_path).write_text("")
        >>> is_classes_file(f"{tmp_path}/./classes.json", tmp_path), is_classes_file(None, tmp_path)
        (True, False)
    """
    file = classes_file(workdir)
    return split_file is not None and file.exists() and os.path.realpath(split_file) == os.path.realpath(file)


def write_classes(workdir: Path, banks: Mapping[str, Bank]) -> None:
    """Keeps the classes of a run that begins.

    Example:
        >>> import numpy as np
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2]), ("ant",), "insects train")
        >>> write_classes(tmp_path, {"train": bank, "validation": bank, "test": bank})
        >>> read_classes(tmp_path).lists["train"]
        ['ant']
    """
    lists = {split: list(banks[split].class_names) for split in SPLITS}
    write_json(classes_file(workdir), {**lists, "pictures": {split: _pictures(banks[split]) for split in SPLITS}})


def _pictures(bank: Bank) -> dict[str, list[Any]]:
    """For each class, how many pictures it has and their hash."""
    counts = (bank.offsets[1:] - bank.offsets[:-1]).tolist()
    return {name: list(found) for name, *found in zip(bank.class_names, counts, class_hashes(bank), strict=True)}


def read_classes(workdir: Path) -> SplitFile | None:
    """The classes of the run in a folder; None for a run of before they were kept.

    Raises:
        UserError: the file is damaged.

    Example:
        >>> read_classes(tmp_path) is None
        True
    """
    file = classes_file(workdir)
    if not file.exists():
        return None
    try:
        found = SplitFile.read(file)
        if found.pictures is None:
            raise UserError(f"{file}: has no 'pictures'")
    except UserError as error:
        raise UserError(
            f"{error}; without it nothing tells whether the run's classes are still the same: put it back, or delete "
            "it if you know that they are"
        ) from error
    return found


def check_classes(
    known: SplitFile, banks: Mapping[str, Bank], workdir: Path, split_fractions: Sequence[float] = FRACTIONS
) -> None:
    """Refuses data whose classes are not those of the run, split by split and in the same order.

    Args:
        known: what the run kept.
        banks: the data as they are now.
        workdir: of the run.
        split_fractions: of its config; others than the default do not go with a split file.

    Warns:
        UserWarning: the classes are the same, their pictures are not.

    Raises:
        UserError: naming classes that differ, and how to go on.

    Example:
        >>> import numpy as np
        >>> from tf_mamlpp.data import ImageBank
        >>> def banks(**classes):
        ...     images, offsets = np.zeros((1, 4, 4, 1), np.uint8), np.array([0, 1])
        ...     return {s: ImageBank(images, offsets, (name,), f"omniglot {s}") for s, name in classes.items()}
        >>> write_classes(tmp_path, banks(train="ant", validation="bee", test="cat"))
        >>> check_classes(read_classes(tmp_path), banks(train="ant", validation="bee", test="dog"), tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: ... not the classes of the run ...: 2 differ: new: dog (test); gone: cat (test); ...
    """
    then, now = (_place(lists) for lists in (known.lists, {split: banks[split].class_names for split in SPLITS}))
    source, examples = banks["train"].source, banks["train"].inputs.kind.examples
    if list(then.items()) != list(now.items()):
        raise UserError(
            f"the classes of {source} are not the classes of the run in '{workdir}': {_difference(then, now)}; "
            + _mend(source, workdir, [name for name in then if name not in now], split_fractions)
        )
    counts = {split: {same_name(n): p for n, p in (known.pictures or {}).get(split, {}).items()} for split in SPLITS}
    changed = []
    for split in SPLITS:
        for name, found in _pictures(banks[split]).items():
            before = counts[split].get(same_name(name))
            if before != found:
                changed.append((name, before[0] if isinstance(before, list) and before else None, found[0]))
    if changed:
        name, before, count = changed[0]
        number = f"{count} {examples}" if before in (None, count) else f"{before} {examples} then, {count} now"
        warnings.warn(
            f"the {examples} of {len(changed)} of {len(now)} classes have changed since the run in '{workdir}' began, "
            f"such as {name} ({number}): its tasks are others than then",
            stacklevel=1,
        )


def _place(lists: Mapping[str, Any]) -> dict[str, str]:
    """The split of each class, in the order of the lists."""
    return {same_name(name): split for split in SPLITS for name in lists[split]}


def _difference(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How many classes differ, and some of those that changed their split, are new, or are gone."""
    moved = [name for name in then if name in now and then[name] != now[name]]
    # Testing on a class of training is the worst, so such classes are named first.
    moved.sort(key=lambda name: (then[name] != "train", now[name] != "test"))
    new, gone = [name for name in now if name not in then], [name for name in then if name not in now]
    if not moved + new + gone:
        return "they are the same, but in another order, which changes the tasks"
    groups = (
        ("", [f"{name} ({then[name]}, now {now[name]})" for name in moved]),
        ("new: ", [f"{name} ({now[name]})" for name in new]),
        ("gone: ", [f"{name} ({then[name]})" for name in gone]),
    )
    told = [f"{kind}{', '.join(few[:_SHOWN])}{', ...' if len(few) > _SHOWN else ''}" for kind, few in groups if few]
    return f"{len(moved + new + gone)} differ: {'; '.join(told)}"


def _mend(source: str, workdir: Path, gone: list[str], split_fractions: Sequence[float]) -> str:
    """How to go on with the run."""
    if source == "glyphs":
        return "install the matplotlib that it was trained with, whose fonts they are, or train in a new workdir"
    if source == "mini_imagenet":
        return "give the data that it was trained on, or train in a new workdir"
    back = f"put back the {len(gone)} that are gone, and " if gone else ""
    file = shlex.quote(str(classes_file(workdir)))
    usual = ",".join(map(str, FRACTIONS))
    fractions = "" if tuple(split_fractions) == FRACTIONS else f" --config.data.split_fractions={usual}"
    return (
        f"{back}to keep to the run's own classes give --split_file={file} to tf-mamlpp evaluate or tf-mamlpp export, "
        f"--config.data.split_file={file}{fractions} to tf-mamlpp train; or train in a new workdir"
    )
