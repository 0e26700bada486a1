"""Another source than a run's own, to test the run on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tf_mamlpp import data
from tf_mamlpp.config import Config
from tf_mamlpp.config.schema import Data
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.kinds import kind_of
from tf_mamlpp.data.pixel_baselines import nearest_class_mean_accuracy
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded
from tf_mamlpp.training.run_banks import Banks, as_trained, classes_and_examples, load_banks, loading
from tf_mamlpp.training.run_inputs import config_inputs

ALL = "all"
"""The split of another source that holds all of its classes."""


def other_source(
    config: Config,
    name: str,
    path: str | None = None,
    split: str | None = None,
    split_file: str | None = None,
    inputs: InputFormat | None = None,
) -> tuple[Config, Banks]:
    """The examples of another source, seen as a run sees its own.

    They are normalised with the run's mean and deviation; pictures are brought to its size and number of channels.

    Args:
        config: of the run, with the tasks to test.
        name: of the source, as `data.name`.
        path: of its files, as `data.path`.
        split: one of the source's own; None takes all of its classes as one, since the run knows none of them.
        split_file: lists the classes of each split of the source.
        inputs: what an example is to the run, see `run_inputs`; None where its config tells it.

    Returns:
        The config of the test, and the banks: of the three splits, or the one bank `all`.

    Raises:
        UserError: the run has no classes, the source is its own, is unknown, or has too few classes or pictures.

    Example:
        >>> from PIL import Image
        >>> for name in ("ant", "bee"):
        ...     (tmp_path / "insects" / name).mkdir(parents=True)
        ...     for file in ("1.png", "2.png"):
        ...         Image.new("RGB", (90, 60)).save(tmp_path / "insects" / name / file)
        >>> config = Config(data=Data(name="glyphs", way=2, cache_dir=str(tmp_path / "cache")))
        >>> config, banks = other_source(config, "image_folder", str(tmp_path / "insects"))
        /...insects: all 2 classes (4 pictures)
        >>> config.data.name, banks["all"].class_names, banks["all"].images.shape
        ('image_folder', ('ant', 'bee'), (4, 28, 28, 1))
    """
    _check_other(config.data, name, path)
    changed: dict[str, Any] = {key: getattr(Data, key) for key in ("split_seed", "split_fractions", "rotations")}
    if name == "glyphs":
        changed["skip_damaged"] = False  # it reads no files
    tested = dataclasses.replace(config.data, **changed, name=name, path=path, split_file=split_file)
    config = dataclasses.replace(config, data=tested)
    if split is not None:
        return config, load_banks(config, inputs=inputs)
    return config, {ALL: _pool(config, inputs)}


def _check_other(d: Data, name: str, path: str | None) -> None:
    if d.is_regression:
        raise UserError("the run is a regression: it is tested on its own curves, and on no other data")
    if kind_of(name) is not d.kind:
        has = "no pictures" if d.kind.is_pictures else f"{kind_of(name).examples}"
        raise UserError(f"data source {name!r} has {has}, and the run was trained on {d.kind.name}")
    if name == d.name and (path is None or d.path is None or _same_place(path, d.path)):
        raise UserError(
            f"data source {name!r} is the run's own: leave --data out, or give the path of other {d.kind.examples}"
        )


def _same_place(one: str, other: str) -> bool:
    return expanded(one).resolve() == expanded(other).resolve()


def _pool(config: Config, inputs: InputFormat | None) -> data.Bank:
    d = config.data
    bank = data.load_pool(d.name, d.path, split_file=d.split_file, **loading(d, "normalise"))
    bank = as_trained(bank, inputs or config_inputs(config))
    data.check_bank(bank, d.way, d.shot, d.query_shot)
    print(f"{d.path or d.name}: all {classes_and_examples(bank)}", flush=True)
    return bank


def described(trained: Data, tested: Data) -> dict[str, str]:
    """What results say of another source, beside its name.

    Example:
        >>> described(Data(name="omniglot", path="data"), Data(name="image_folder", path="sets/pets/"))
        {'trained_on': 'omniglot', 'dataset_path': 'sets/pets'}
    """
    path = {} if tested.path is None else {"dataset_path": Path(tested.path).as_posix()}
    return {"trained_on": trained.name, **path}


def pixel_baselines(d: Data, bank: data.Bank, split: str, tasks: int) -> dict[str, Any]:
    """What raw pixels alone, or other inputs alone, give on the fixed tasks of a test.

    Args:
        d: the tasks.
        bank: of the split.
        split: its name.
        tasks: how many.

    Example:
        >>> import numpy as np
        >>> bank = data.ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("a", "b"), "letters test")
        >>> sorted(pixel_baselines(Data(way=2), bank, "test", tasks=1))
        ['nearest_class_mean', 'nearest_pixel']
    """
    names = bank.inputs.kind.baselines
    measures = {names[0]: data.nearest_pixel_accuracy}
    if bank.inputs.dtype != "int32":  # names have no mean
        measures[names[1]] = nearest_class_mean_accuracy
    task: dict[str, Any] = {"way": d.way, "shot": d.shot, "query_shot": d.query_shot, "seed": 0, "split": split}
    found = {name: measure(bank, **task, tasks=tasks) for name, measure in measures.items()}
    return {name: {"accuracy": value, "confidence_95": half} for name, (value, half) in found.items()}
