"""Another source than a run's own, to test the run on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tf_mamlpp import data
from tf_mamlpp.config import Config
from tf_mamlpp.config.schema import Data
from tf_mamlpp.data.pixel_baselines import nearest_class_mean_accuracy
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded
from tf_mamlpp.training.build import Banks, load_banks

ALL = "all"
"""The split of another source that holds all of its classes."""


def other_source(
    config: Config, name: str, path: str | None = None, split: str | None = None, split_file: str | None = None
) -> tuple[Config, Banks]:
    """The pictures of another source, seen as a run sees its own.

    They are brought to the run's size and number of channels, and normalised with its mean and deviation.

    Args:
        config: of the run, with the tasks to test.
        name: of the source, as `data.name`.
        path: of its files, as `data.path`.
        split: one of the source's own; None takes all of its classes as one, since the run knows none of them.
        split_file: lists the classes of each split of the source.

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
        return config, load_banks(config)
    return config, {ALL: _pool(tested)}


def _check_other(d: Data, name: str, path: str | None) -> None:
    if d.is_regression:
        raise UserError("the run is a regression: it is tested on its own curves, and on no other data")
    if name == "sinusoid":
        raise UserError("data source 'sinusoid' has no pictures, and the run was trained on pictures")
    if name == d.name and (path is None or d.path is None or _same_place(path, d.path)):
        raise UserError(f"data source {name!r} is the run's own: leave --data out, or give the path of other pictures")


def _same_place(one: str, other: str) -> bool:
    return expanded(one).resolve() == expanded(other).resolve()


def _pool(d: Data) -> data.ImageBank:
    bank = data.load_pool(
        d.name,
        d.path,
        image_size=d.image_size,
        channels=d.channels,
        resize=d.resize,
        split_file=d.split_file,
        skip_damaged=d.skip_damaged,
        cache_dir=d.cache_dir,
    )
    data.check_bank(bank, d.way, d.shot, d.query_shot)
    classes = f"all {len(bank.class_names)} classes ({len(bank.images)} pictures)"
    print(f"{d.path or d.name}: {classes}", flush=True)
    return bank


def described(trained: Data, tested: Data) -> dict[str, str]:
    """What results say of another source, beside its name.

    Example:
        >>> described(Data(name="omniglot", path="data"), Data(name="image_folder", path="sets/pets/"))
        {'trained_on': 'omniglot', 'dataset_path': 'sets/pets'}
    """
    path = {} if tested.path is None else {"dataset_path": Path(tested.path).as_posix()}
    return {"trained_on": trained.name, **path}


def pixel_baselines(d: Data, bank: data.ImageBank, split: str, tasks: int) -> dict[str, Any]:
    """What raw pixels alone give on the fixed tasks of a test.

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
    found = {}
    for name, measure in (
        ("nearest_pixel", data.nearest_pixel_accuracy),
        ("nearest_class_mean", nearest_class_mean_accuracy),
    ):
        value, half = measure(bank, way=d.way, shot=d.shot, query_shot=d.query_shot, tasks=tasks, seed=0, split=split)
        found[name] = {"accuracy": value, "confidence_95": half}
    return found
