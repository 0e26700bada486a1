"""A run's folder: claimed for one config, and opened again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.files import claimed, write_json
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.records.run_record import read_json
from tf_mamlpp.training.build import make_learner
from tf_mamlpp.training.checkpoints import Checkpoints


@contextlib.contextmanager
def workdir_for(config: Config, workdir: Path) -> Iterator[None]:
    """Claims the folder for this run: one process at a time, one config for good."""
    with claimed(workdir, f"workdir '{workdir}' is in use by another run: wait for it or choose another"):
        file = workdir / "config.json"
        if file.exists() and any((workdir / "checkpoints").glob("update-*")):  # else it holds a mistake, no run
            changed = configs.differences(read_config(workdir), config)
            if changed:
                raise UserError(
                    f"workdir '{workdir}' holds a run of another config ({'; '.join(changed[:3])}): "
                    "choose another workdir, or the run's own config to resume it"
                )
        with writing(workdir):
            write_json(file, configs.to_dict(config))
            yield


def read_config(workdir: Path) -> Config:
    """The config of the run in `workdir`."""
    tree = read_json(workdir / "config.json")
    if tree is None:
        raise UserError(f"'{workdir}' holds no run: there is no config.json; train one with bin/train.py")
    return configs.from_dict(tree)


def open_run(
    workdir: Path, data_path: str | None = None, label_permutations: int | None = None
) -> tuple[Config, EpisodicModel, Checkpoints]:
    """A run to read from: its config, with what is given in place of its own, and the learner at the last update."""
    config = read_config(workdir)
    changed: dict[str, Any] = {"batched_tasks": False}  # tasks come one by one here
    if label_permutations is not None:
        changed["label_permutations"] = label_permutations
    config = dataclasses.replace(config, learner=dataclasses.replace(config.learner, **changed))
    if data_path:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=data_path))
    learner = make_learner(config)
    checkpoints = Checkpoints(workdir / "checkpoints", learner, config.evaluation.ensemble)
    if not checkpoints.best:
        raise UserError(f"'{workdir}' has no finished epoch yet: there is nothing to evaluate or export")
    checkpoints.restore_latest()
    return config, learner, checkpoints
