"""A new run that begins from what another has learned: `training.start`."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_mamlpp.config import Config
from tf_mamlpp.data.bank import class_hashes
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.errors import UserError, reason, writing
from tf_mamlpp.files import expanded, write_json
from tf_mamlpp.meta.adapted_weights import head_weights
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.records.run_files import read_json
from tf_mamlpp.training.build import make_classifier, make_learner, make_model
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.run_banks import Banks
from tf_mamlpp.training.run_classes import read_classes
from tf_mamlpp.training.run_inputs import kept_inputs
from tf_mamlpp.training.workdir import open_run, read_config

PRETRAINING = "pretraining"
"""The folder of a run that holds its pretraining."""

_NAME = "start.json"
_RATES = "inner_rates/rates"
_PER_STEP = ("gamma", "beta", "moving_mean", "moving_variance")  # of batch norm: may have a row for each inner step

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
        tf_mamlpp.errors.UserError: training.start: a file has no 'mlp/dense0/kernel', which...
    """

    name: str
    values: Mapping[_Key, np.ndarray]
    trained: frozenset[str] | None
    class_names: frozenset[str] = frozenset()
    source: str | None = None

    def give_to(self, learner: EpisodicModel) -> None:
        """Puts the weights into a learner, and says what was taken and what not.

        The body must fit.  Rows of batch norm for other inner steps are repeated or cut.  Where these have another
        form, or none, the head begins at zero and the inner rates as they are: to features that tell classes apart a
        random head is noise, which the inner loop would first have to unlearn.

        Raises:
            UserError: they do not fit, and nothing was changed.
        """
        wanted = _variables(learner)
        head = set[int]() if learner.settings.prototypes else head_weights(learner.model)
        taken, left, unset = dict[_Key, np.ndarray](), list[str](), list[Any]()
        for key, variable in wanted.items():
            value = _fitted(self.values.get(key), key, tuple(variable.shape))
            if value is not None:
                taken[key] = value
            elif _is_rates(key) or id(variable) in head:
                left.append("the inner rates" if _is_rates(key) else f"'{variable.path}', now zero")
                unset += [] if _is_rates(key) else [variable]
            elif key not in self.values:
                raise UserError(f"training.start: {self.name} has no '{variable.path}', which this model has")
            else:
                raise UserError(
                    f"training.start: '{variable.path}' has shape {list(self.values[key].shape)} in {self.name} and "
                    f"{list(variable.shape)} here: start with that model's network and size of pictures"
                )
        for key, value in taken.items():
            wanted[key].assign(value)
        for variable in unset:
            variable.assign(np.zeros(variable.shape))
        unused = len(self.values.keys() - wanted.keys())
        told = [f"took {len(taken)} tensors"]
        told += ["learned inner rates among them"] if any(map(_is_rates, taken)) else []
        told += [f"not {', '.join(left)}"] if left else []
        told += [f"{unused} of its tensors have no place here"] if unused else []
        begin = "the optimizer, the schedules and the tasks begin anew"
        print(f"starts from {self.name}: {', '.join(told)}; {begin}", flush=True)

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


def read_start(config: Config, inputs: InputFormat | None = None) -> Start:
    """Reads what `training.start` names: a run's best epoch, that of its folder `pretraining`, or a file.

    Args:
        config: of the new run.  A file is a saved Keras model (`.keras`), or the weights (`.weights.h5`) of a learner
            or a network of this config.
        inputs: what the network takes, see `make_model`.

    Raises:
        UserError: there is none, or it cannot be read.

    Example:
        >>> from tf_mamlpp.config import Training
        >>> read_start(Config(training=Training(start="no/such/run")))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: training.start 'no/such/run' is no run's folder and no .keras or .weights.h5 file
    """
    path = expanded(str(config.training.start))
    if path.is_dir():
        return _of_pretraining(path) if path.name == PRETRAINING else _of_run(path)
    if path.is_file() and path.name.endswith(".weights.h5"):
        return _of_weights(path, config, inputs)
    if path.is_file() and path.suffix == ".keras":
        return _of_model(path)
    raise UserError(f"training.start '{path}' is no run's folder and no .keras or .weights.h5 file")


def _of_run(path: Path) -> Start:
    config, learner, checkpoints = open_run(path)
    entry = checkpoints.restore_best(0)
    return Start(f"epoch {entry['epoch'] + 1} of '{path}'", learned_values(learner), *_trained_on(path, config))


def _of_pretraining(path: Path) -> Start:
    run = path.parent
    config, classes = read_config(run), read_classes(run)
    if not config.pretrain.epochs or classes is None:
        raise UserError(f"training.start '{path}': the run in '{run}' has no pretraining")
    classifier = make_classifier(config, len(classes.lists["train"]), kept_inputs(config, run))
    checkpoints = Checkpoints(path / "checkpoints", classifier, 1)
    if not checkpoints.best:
        raise UserError(f"training.start '{path}' has no finished epoch yet")
    entry = checkpoints.restore_best(0)
    return Start(f"epoch {entry['epoch'] + 1} of '{path}'", learned_values(classifier), *_trained_on(run, config))


def _trained_on(run: Path, config: Config) -> tuple[frozenset[str] | None, frozenset[str], str]:
    """Hashes and names of the classes that a run, and those it began from, were trained on, and their source."""
    classes, before = read_classes(run), read_json(run / _NAME, "trained_classes")
    trained: frozenset[str] | None = None
    if config.is_regression:
        trained = frozenset()
    elif classes and classes.pictures and (before is None or before["trained_classes"] is not None):
        earlier = before["trained_classes"] if before else ()
        trained = frozenset([*(found[-1] for found in classes.pictures["train"].values()), *earlier])
    return trained, frozenset(classes.lists["train"]) if classes else frozenset(), config.data.name


def _of_weights(path: Path, config: Config, inputs: InputFormat | None) -> Start:
    problem: Exception | None = None
    learner = make_learner(config, inputs)
    for owner, values in ((learner, learned_values), (make_model(config, inputs), _model_values)):
        try:
            owner.load_weights(path)
            return Start(f"'{path}'", values(owner), None)
        except Exception as error:  # h5py and Keras raise nearly anything
            problem = problem or error
    assert problem is not None
    raise UserError(f"training.start '{path}' does not fit this model, or is damaged: {reason(problem)}") from problem


def _of_model(path: Path) -> Start:
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise UserError(f"training.start '{path}' cannot be loaded: {reason(error)}") from error
    return Start(f"'{path}'", _model_values(model), None)


def learned_values(learner: EpisodicModel) -> dict[_Key, np.ndarray]:
    """What a run has learned, as `Start` takes it: the network's weights, and the inner rates where they are learned.

    Example:
        >>> import tf_mamlpp as mp
        >>> list(learned_values(mp.PrototypicalNetworks(mp.mlp((4,), 3, (5,)), way=3)))
        [('dense0/kernel', 0), ('dense0/bias', 0)]
    """
    return _numbers(_variables(learner))


def _model_values(model: keras.Model) -> dict[_Key, np.ndarray]:
    return _numbers(_model_variables(model))


def _numbers(variables: Mapping[_Key, Any]) -> dict[_Key, np.ndarray]:
    return {key: variable.numpy() for key, variable in variables.items()}


def _variables(learner: EpisodicModel) -> dict[_Key, Any]:
    rates = {(v.path, 0): v for v in learner.trainable_variables if v.path.endswith(_RATES)}
    return {**_model_variables(learner.model), **rates}


def _model_variables(model: keras.Model) -> dict[_Key, Any]:
    """The variables of a network by their paths in it.

    Keras numbers what has no name of its own, differently for each model of a process: such numbers do not count.
    """
    count: Counter[str] = Counter()
    found = {}
    for variable in model.variables:
        if not variable.path.endswith("seed_generator_state"):
            path = re.sub(r"_\d+(?=/|$)", "", variable.path.removeprefix(f"{model.name}/"))
            found[path, count[path]] = variable
            count[path] += 1
    return found


def _is_rates(key: _Key) -> bool:
    return key[0].endswith(_RATES)


def _fitted(value: np.ndarray | None, key: _Key, shape: tuple[int, ...]) -> np.ndarray | None:
    """A value in the shape of a variable; None if it does not fit."""
    if value is None or value.shape == shape:
        return value
    if key[0].rpartition("/")[2] not in _PER_STEP or value.ndim > 2 or value.shape[-1:] != shape[-1:]:
        return None
    rows = np.atleast_2d(value)
    if len(shape) == 1:
        return rows[-1]
    return rows[np.minimum(np.arange(shape[0]), len(rows) - 1)]
