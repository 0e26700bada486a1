"""The data of a run: the banks of its splits, whose examples are prepared as the run's model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_mamlpp import data
from tf_mamlpp.config import Config, Data
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.picture_files import subfolders
from tf_mamlpp.data.sources.split_folders import split_folders
from tf_mamlpp.data.sources.splits import SplitFile
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded
from tf_mamlpp.training.run_classes import check_classes
from tf_mamlpp.training.run_inputs import config_inputs

Banks = Mapping[str, data.Bank] | None
"""The examples of each split; None for a regression, which draws its own."""


def load_banks(
    config: Config, known: SplitFile | None = None, workdir: Path = Path(), inputs: InputFormat | None = None
) -> Banks:
    """The examples of each split, checked against the task's shape; prints how the data were divided.

    Args:
        config: of the run.
        known: the classes of the run, if it has begun: the data must have the same.
        workdir: of that run.
        inputs: what an example is to the run, see `run_inputs`; None where the data tell it.

    Raises:
        UserError: they are missing, damaged or too few, or not of the run's classes or shape.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> load_banks(Config(data=Data(name="sinusoid"))) is None
        True
    """
    d = config.data
    if config.is_regression:
        return None
    division: dict[str, Any] = {
        "split_seed": d.split_seed,
        "split_fractions": d.split_fractions,
        "split_file": d.split_file,
    }
    loaded = data.load_banks(d.name, d.path, **division, **loading(d))
    banks = {split: as_trained(bank, inputs or config_inputs(config)) for split, bank in loaded.items()}
    if d.name != "glyphs":
        print(_division(d, banks), flush=True)
    if known is not None:
        check_classes(known, banks, workdir, d.split_fractions)
    for bank in banks.values():
        data.check_bank(bank, d.way, d.shot, d.query_shot)
    return banks


def loading(d: Data, *without: str) -> dict[str, Any]:
    """The settings of a source's kind that say how its examples are read.

    Args:
        d: the source.
        *without: settings to leave out.

    Example:
        >>> loading(Data(name="arrays", normalise=False))
        {'normalise': False}
    """
    return {name: getattr(d, name) for name in d.kind.settings if name not in (*_LATER, *without)}


_LATER = ("mean", "std", "rotations")  # settings of examples that have been read


def as_trained(bank: data.Bank, inputs: InputFormat | None) -> data.Bank:
    """A bank whose examples are prepared as those of a run.

    Args:
        bank: of the run's kind of data.
        inputs: what an example is to the run; None leaves the bank's own.

    Raises:
        UserError: its examples have another shape or dtype.

    Example:
        >>> import numpy as np
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> bank = data.ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("a", "b"), "letters test")
        >>> as_trained(bank, PictureFormat((8, 8), 1, mean=(0.1,), std=(0.2,))).inputs.mean
        (0.1,)
    """
    if inputs is None:
        return bank
    own = bank.inputs
    if (own.shape, own.dtype) != (inputs.shape, inputs.dtype):
        raise UserError(
            f"{bank.name}: an example is {own.dtype} {list(own.shape)}, and the run was trained on {inputs.dtype} "
            f"{list(inputs.shape)}"
        )
    return bank.with_inputs(inputs)


def _division(d: Data, banks: Mapping[str, data.Bank]) -> str:
    """In one line: how the data were read, and the classes and pictures of each split."""
    folders, unread = None, list[str]()
    if d.split_file is None and d.path is not None and d.name in ("image_folder", "mini_imagenet", "audio_folder"):
        folders = split_folders(expanded(d.path))
    if d.split_file is not None:
        how = f"divided by {d.split_file}"
    elif folders:
        place, taken = next(iter(folders.values())).parent, [folder.name for folder in folders.values()]
        unread = [f"{Path(other).name}/" for other in subfolders(place) if Path(other).name not in taken]
        how = f"with the splits {taken[0]}/, {taken[1]}/ and {taken[2]}/"
    elif d.name == "omniglot" or any(bank.by_fractions for bank in banks.values()):
        pool = sum(len(bank.class_names) for bank in banks.values())
        how = f"one pool of {pool} classes, divided by data.split_seed={d.split_seed}"
    else:
        how = "with its own splits"
    parts = [f"{split} {classes_and_examples(bank)}" for split, bank in banks.items()]
    left = f"; not read: {', '.join(unread[:3])}{', ...' if len(unread) > 3 else ''}" if unread else ""
    return f"{d.path or d.name}: {how}: {', '.join(parts)}{left}"


def classes_and_examples(bank: data.Bank) -> str:
    """How many classes and examples a bank has, in words.

    Example:
        >>> import numpy as np
        >>> bank = data.ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("a", "b"), "letters test")
        >>> classes_and_examples(bank)
        '2 classes (4 pictures)'
    """
    return f"{len(bank.class_names)} classes ({len(bank)} {bank.inputs.kind.examples})"
