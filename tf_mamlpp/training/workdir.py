"""A run's folder: claimed for one config, and opened again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.config.schema import prefixed
from tf_mamlpp.data.sources.splits import FRACTIONS
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.files import claimed, write_json
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.records.run_files import read_json
from tf_mamlpp.training.build import make_learner
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.run_classes import is_classes_file
from tf_mamlpp.training.run_inputs import kept_inputs


@contextlib.contextmanager
def claim_workdir(config: Config, workdir: Path) -> Iterator[None]:
    """Claims the folder for this run: one process at a time, one config for good.

    The number of epochs may grow: then the run becomes what it had been with that number from its beginning.

    Args:
        config: of the run, written to `config.json`.
        workdir: is made if it is missing.

    Raises:
        UserError: another process has the folder, it holds a run of another config, or it cannot be written.

    Example:
        >>> with claim_workdir(Config(seed=3), tmp_path):
        ...     read_config(tmp_path).seed
        3
    """
    with claimed(workdir, f"workdir '{workdir}' is in use by another run: wait for it or choose another"):
        file = workdir / "config.json"
        if file.exists() and holds_run(workdir):  # else it holds a mistake, no run
            old = read_config(workdir)
            comparable = _with_more_epochs(_same_division(old, config, workdir), config, workdir)
            changed = configs.differences(comparable, config)
            if changed:
                raise UserError(
                    f"workdir '{workdir}' holds a run of another config ({'; '.join(changed[:3])}): "
                    "choose another workdir, or the run's own config to resume it"
                )
            if config.training.epochs > old.training.epochs:
                more = f"from {old.training.epochs} to {config.training.epochs} epochs"
                print(f"the run in '{workdir}' goes on {more}", flush=True)
        with writing(workdir):
            write_json(file, configs.to_dict(config))
        yield


def holds_run(workdir: Path) -> bool:
    """Whether a run in this folder has come to a checkpoint.

    Example:
        >>> holds_run(tmp_path)
        False
    """
    return any((workdir / "checkpoints").glob("update-*"))


def _same_division(config: Config, new: Config, workdir: Path) -> Config:
    """The run's config, divided into splits as the new one is, where one of them names the classes that the run keeps.

    Whether the classes are the same is found when the pictures are loaded.
    """
    if not any(is_classes_file(c.data.split_file, workdir) for c in (config, new)):
        return config
    keys = ("split_seed", "split_fractions", "split_file")
    division = {key: getattr(new.data, key) for key in keys}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **division))


def _with_more_epochs(config: Config, new: Config, workdir: Path) -> Config:
    """The run's config with the epochs of the new one, if they are more and the outer rate of each epoch is the same.

    Raises:
        UserError: it is not.
    """
    old, wanted = config.training, new.training
    if wanted.epochs < old.epochs:
        return config
    if config.learner.cosine_annealing:
        annealed = old.annealing_epochs or old.epochs
        if (wanted.annealing_epochs or wanted.epochs) != annealed:
            raise UserError(
                f"workdir '{workdir}' holds a run whose outer rate anneals over {annealed} epochs: go on with "
                f"--config.training.annealing_epochs={annealed}, so that epochs after these keep learner.minimum_rate; "
                "or choose another workdir"
            )
    grown = dataclasses.replace(old, epochs=wanted.epochs, annealing_epochs=wanted.annealing_epochs)
    return dataclasses.replace(config, training=grown)


def read_config(workdir: Path) -> Config:
    """The config of the run in a folder.

    Raises:
        UserError: there is no run, or its config is damaged.

    Example:
        >>> read_config(tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: ... holds no run: there is no config.json; train one with tf-mamlpp train
    """
    tree = read_json(workdir / "config.json")
    if tree is None:
        raise UserError(f"'{workdir}' holds no run: there is no config.json; train one with tf-mamlpp train")
    return configs.from_dict(tree)


def open_run(
    workdir: Path,
    data_path: str | None = None,
    label_permutations: int | None = None,
    split_file: str | None = None,
    task: Mapping[str, int] | None = None,
) -> tuple[Config, EpisodicModel, Checkpoints]:
    """A run to read from.

    Args:
        workdir: of the run.
        data_path: replaces the config's `data.path`.
        label_permutations: replaces the config's `learner.label_permutations`.
        split_file: replaces the config's `data.split_file`, and its fractions.
        task: `way`, `shot` and `query_shot` that replace the config's.

    Returns:
        The config with these changes, the learner after the last update, and the checkpoints.

    Raises:
        UserError: there is no run, none with a finished epoch, or a setting does not go with it.

    Example:
        >>> with claim_workdir(Config(), tmp_path):
        ...     pass
        >>> open_run(tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: ... has no finished epoch yet: there is nothing to evaluate or export
    """
    config = read_config(workdir)
    changed: dict[str, Any] = {"batched_tasks": False}  # tasks come one by one here
    if label_permutations is not None:
        changed["label_permutations"] = label_permutations
    with prefixed("learner."):
        settings = dataclasses.replace(config.learner, **changed)
    config = dataclasses.replace(config, learner=settings)
    source: dict[str, Any] = {"path": data_path} if data_path else {}
    if split_file:
        source.update(split_file=split_file, split_fractions=FRACTIONS)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **source))
    learner = make_learner(config, kept_inputs(config, workdir))
    tested: dict[str, Any] = dict(task or {})
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **tested))
    if learner.way is not None and config.data.way != learner.way and not learner.any_way:
        raise UserError(
            f"way is {config.data.way}, and the run in '{workdir}' learned a head for {learner.way} classes: runs with "
            "learner.head=prototypes or shared, and prototypical networks, take any number"
        )
    checkpoints = Checkpoints(workdir / "checkpoints", learner, config.evaluation.ensemble)
    if not checkpoints.best:
        raise UserError(f"'{workdir}' has no finished epoch yet: there is nothing to evaluate or export")
    checkpoints.restore_latest()
    return config, learner, checkpoints
