"""A new run that begins from what another has learned: `training.start`."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tf_mamlpp.config import Config
from tf_mamlpp.data.bank_cache import class_hashes
from tf_mamlpp.errors import UserError, reason, writing
from tf_mamlpp.files import expanded, write_json
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.records.run_files import read_json
from tf_mamlpp.training.build import Banks, make_learner
from tf_mamlpp.training.run_classes import read_classes
from tf_mamlpp.training.workdir import open_run

_NAME = "start.json"

_Key = tuple[str, int]  # a variable's path, and how many before it have the same


@dataclass(frozen=True)
class Start:
    """What a run begins from.

    Attributes:
        name: of the epoch or the file, for the user.
        values: of the model's variables, and of the learned inner rates.
        trained: hashes of the classes that they were trained on; None where nothing says which they were.
        class_names: of these classes.
        source: of these classes, `data.name`.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=1)
        >>> Start("a file", {}, None).give_to(learner)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: training.start: a file has no 'mlp/dense0/kernel', ...
    """

    name: str
    values: Mapping[_Key, np.ndarray]
    trained: frozenset[str] | None
    class_names: frozenset[str] = frozenset()
    source: str | None = None

    def give_to(self, learner: EpisodicModel) -> None:
        """Puts the weights into a learner, all of them or none, and says what was taken.

        Raises:
            UserError: they do not fit.
        """
        wanted = _variables(learner)
        rates = [key for key in wanted if key not in self.values and _is_rates(key)]
        for key, variable in wanted.items():
            if key in rates:
                continue
            if key not in self.values:
                raise UserError(f"training.start: {self.name} has no '{variable.path}', which this model has")
            found = self.values[key].shape
            if found != tuple(variable.shape):
                raise UserError(
                    f"training.start: '{variable.path}' has shape {list(found)} in {self.name} and "
                    f"{list(variable.shape)} here: start with the settings of that run's model and learner"
                )
        for key, variable in wanted.items():
            if key not in rates:
                variable.assign(self.values[key])
        learned = any(map(_is_rates, wanted)) and not rates
        print(
            f"starts from {self.name}: took {len(wanted) - len(rates)} tensors"
            f"{', learned inner rates among them' if learned else ''}; the optimizer, the schedules"
            f"{'' if learned else ', the inner rates'} and the tasks begin anew",
            flush=True,
        )

    def check_classes(self, banks: Banks, source: str) -> None:
        """Refuses to validate or test on what the weights were trained on.

        Args:
            banks: of the new run.
            source: `data.name` of the new run.

        Warns:
            UserWarning: it is not known what they were trained on, or classes have the names of some that were.

        Raises:
            UserError: a class of validation or test was trained on.
        """
        if banks is None:
            return
        if self.trained is None:
            warnings.warn(
                f"nothing says which classes {self.name} was trained on: if classes of validation or test are among "
                "them, their accuracy says nothing about new classes",
                stacklevel=1,
            )
            return
        for split in ("validation", "test"):
            bank = banks[split]
            hashes = zip(bank.class_names, class_hashes(bank), strict=True)
            known = [name for name, found in hashes if found in self.trained]
            if known:
                raise UserError(
                    f"training.start: {self.name} was trained on {len(known)} of the {split} classes, such as "
                    f"{known[0]}: give data.split_seed or data.split_file of that run, so that they are new"
                )
            same = sorted(set(bank.class_names) & self.class_names) if source == self.source else []
            if same:
                warnings.warn(
                    f"{self.name} was trained on {len(same)} classes of the same names as classes of {split}, such as "
                    f"{same[0]}: if they are the same, the accuracy says nothing about new classes",
                    stacklevel=1,
                )

    def keep(self, workdir: Path) -> None:
        """Writes what the run began from into its folder."""
        trained = None if self.trained is None else sorted(self.trained)
        with writing(workdir):
            write_json(workdir / _NAME, {"from": self.name, "trained_classes": trained})


def read_start(config: Config) -> Start:
    """Reads what `training.start` names: the best epoch of a run, or a file of `learner.save_weights`.

    Args:
        config: of the new run. A file holds the weights of a learner of this config.

    Raises:
        UserError: there is neither, or it cannot be read.

    Example:
        >>> from tf_mamlpp.config import Training
        >>> read_start(Config(training=Training(start="no/such/run")))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: training.start 'no/such/run' is neither a run's folder nor a .weights.h5 file
    """
    path = expanded(str(config.training.start))
    if path.is_dir():
        return _of_run(path)
    if path.is_file() and path.name.endswith(".weights.h5"):
        return _of_file(path, config)
    raise UserError(f"training.start '{path}' is neither a run's folder nor a .weights.h5 file")


def _of_run(path: Path) -> Start:
    config, learner, checkpoints = open_run(path)
    entry = checkpoints.restore_best(0)
    classes, before = read_classes(path), read_json(path / _NAME, "trained_classes")
    trained: frozenset[str] | None = None
    if config.is_regression:
        trained = frozenset()
    elif classes and classes.pictures and (before is None or before["trained_classes"] is not None):
        earlier = before["trained_classes"] if before else ()
        trained = frozenset([*(found[-1] for found in classes.pictures["train"].values()), *earlier])
    names = frozenset(classes.lists["train"]) if classes else frozenset()
    name = f"epoch {entry['epoch'] + 1} of '{path}'"
    return Start(name, _values(learner), trained, names, config.data.name)


def _of_file(path: Path, config: Config) -> Start:
    learner = make_learner(config)
    try:
        learner.load_weights(path)
    except Exception as error:  # h5py and Keras raise nearly anything
        raise UserError(f"training.start '{path}' does not fit this model, or is damaged: {reason(error)}") from error
    return Start(f"'{path}'", _values(learner), None)


def _values(learner: EpisodicModel) -> dict[_Key, np.ndarray]:
    return {key: variable.numpy() for key, variable in _variables(learner).items()}


def _variables(learner: EpisodicModel) -> dict[_Key, Any]:
    """The variables that a run learns: the model's, and the inner rates where they are learned.

    Keras numbers what has no name of its own, differently for each model of a process: such numbers do not count.
    """
    kept = {id(v) for v in learner.model.variables} | {id(v) for v in learner.trainable_variables}
    count: Counter[str] = Counter()
    found = {}
    for variable in learner.variables:
        if id(variable) in kept and not variable.path.endswith("seed_generator_state"):
            path = re.sub(r"_\d+(?=/|$)", "", variable.path)
            found[path, count[path]] = variable
            count[path] += 1
    return found


def _is_rates(key: _Key) -> bool:
    return key[0].endswith("inner_rates/rates")
