"""The sections of a config and every check of them.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tf_mamlpp.data.sources.splits import FRACTIONS, check_fractions
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import INNER_LOOP, QUERY_STATISTICS, method_name


@dataclass(frozen=True)
class Data:
    """Where pictures come from and what a task is."""

    name: str = "glyphs"  # glyphs, omniglot, mini_imagenet, image_folder, tfds:<name>, sinusoid
    path: str | None = None  # of the archives, the folder tree, or TFDS's data_dir
    way: int = 5  # classes of a task
    shot: int = 1  # support pictures a class
    query_shot: int = 1  # query pictures a class
    image_size: tuple[int, int] = (28, 28)  # height, width
    channels: int = 1  # 1 grey, 3 RGB
    resize: str = "stretch"  # stretch, crop (the middle, in the wanted proportions): pictures of other proportions
    mean: tuple[float, ...] = (1.0,)  # of (x / 255 - mean) / std, one for each channel;
    std: tuple[float, ...] = (-1.0,)  # mean 1 and std -1 invert, so that ink is 1 and paper 0
    rotations: bool = False  # training tasks turn each class by a random multiple of 90 degrees
    split_seed: int = 0  # shuffles classes into train, validation and test
    split_fractions: tuple[float, float, float] = FRACTIONS  # of the classes, for train, validation and test
    split_file: str | None = None  # JSON lists of the classes of each split, instead
    cache_dir: str | None = None  # of decoded pictures; None for ~/.cache/tf_mamlpp


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = "conv4"  # conv4, resnet12, mlp, keras:<name in keras.applications>, <module>:<function>
    filters: int = 64  # of every block of conv4
    blocks: int = 4  # of conv4
    strided: bool = False  # conv4 with strides and a global average pool instead of max-pools
    widths: tuple[int, ...] = (64, 160, 320, 640)  # filters of resnet12's blocks
    weights: str | None = None  # weights file (without the top) for keras:<name>; None starts from random ones
    dtype: str = "float32"  # float32, mixed_bfloat16 (weights stay float32)


@dataclass(frozen=True)
class Learner:
    """Arguments of `MetaLearner` (with `prototypes`, of `PrototypicalNetworks`), see there."""

    inner_steps: int = 5
    inner_rate: float = 0.1
    multi_step_loss: bool = False
    derivative_order_annealing: bool = False
    per_step_statistics: bool = False
    per_step_weights: bool = False
    learned_rates: bool = False
    elementwise_rates: bool = False
    cosine_annealing: bool = False
    first_order: bool = False
    adapted: str = "all"  # all, head, body, or a regular expression on paths of weights
    shared_head: bool = False
    label_permutations: int = 1  # of the test
    prototypes: bool = False  # Prototypical Networks: no inner loop, so nothing of it matters
    multi_step_loss_epochs: int = 10
    second_order_from_epoch: int = 50
    minimum_rate: float = 1e-5
    query_statistics: str = "batch"  # batch, running, support: in training
    evaluation_statistics: str | None = None  # the same in evaluation; None for the one above
    gradient_clip: float | None = None
    parallel_tasks: int | None = None  # None for the number of cores
    batched_tasks: bool = False  # all tasks at once, as batched matrix products: for GPUs
    rematerialise: bool = False  # computes inner steps again instead of keeping them: memory for time


@dataclass(frozen=True)
class Training:
    """The outer loop."""

    epochs: int = 10
    updates: int = 500  # an epoch
    tasks: int = 8  # an update
    learning_rate: float = 1e-3  # Adam's
    checkpoint_updates: int = 100  # between checkpoints; every epoch ends with one too
    strategy: str = "none"  # none, mirrored (all GPUs of this machine), multi_worker (machines of TF_CONFIG)
    jit_compile: bool = False  # XLA; far slower on a CPU


@dataclass(frozen=True)
class Evaluation:
    """Validation after every epoch and the test at the end."""

    validation_tasks: int = 600
    test_tasks: int = 600
    ensemble: int = 5  # best validation epochs whose softmax the test averages (fewer if there are fewer)


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on."""

    seed: int = 0
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    learner: Learner = field(default_factory=Learner)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def method(self) -> str:
        """The method's name, with what differs from the nearest preset."""
        return method_name(dataclasses.asdict(self.learner))


MACHINE_KEYS = (
    "data.path",
    "data.cache_dir",
    "learner.parallel_tasks",
    "learner.batched_tasks",
    "learner.rematerialise",
    "training.strategy",
    "training.jit_compile",
)
"""Where and how a run computes, not what: these may change when it is resumed."""


def _validate(config: Config) -> None:
    data, learner, training = config.data, config.learner, config.training
    if type(config.seed) is not int or not 0 <= config.seed < 2**32:
        raise UserError(f"seed is {config.seed!r}: it must be an integer from 0 to {2**32 - 1}")
    sections = {name: kind for name, kind in typing.get_type_hints(Config).items() if name != "seed"}
    for section, kind in sections.items():
        if not isinstance(getattr(config, section), kind):
            raise UserError(f"config key '{section}' is a {kind.__name__}, {getattr(config, section)!r} is not one")
        hints = typing.get_type_hints(kind)
        for f in dataclasses.fields(kind):
            _typed(f"{section}.{f.name}", getattr(getattr(config, section), f.name), hints[f.name])
            _check_value(f"{section}.{f.name}", getattr(getattr(config, section), f.name))
    _check_choice("learner.query_statistics", learner.query_statistics, QUERY_STATISTICS)
    if learner.evaluation_statistics is not None:
        _check_choice("learner.evaluation_statistics", learner.evaluation_statistics, QUERY_STATISTICS)
    try:
        re.compile(learner.adapted)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"learner.adapted is all, head, body or a regular expression; '{learner.adapted}' is none: {error}"
        ) from error
    model = config.model
    if ":" not in model.name:
        _check_choice("model.name", model.name, ("conv4", "resnet12", "mlp", "keras:<name>", "<module>:<function>"))
    if model.weights and not model.name.startswith("keras:"):
        raise UserError(f"model.weights is for model.name=keras:<name>, not for '{model.name}'")
    _check_choice("model.dtype", model.dtype, ("float32", "mixed_bfloat16"))
    if not 1 <= learner.label_permutations <= data.way:
        raise UserError(f"learner.label_permutations is {learner.label_permutations}: it must be 1 to the way")
    if learner.prototypes:
        unused = [name for name in INNER_LOOP if getattr(learner, name) != getattr(Learner(), name)]
        if unused:
            raise UserError(f"learner.prototypes has no inner loop: learner.{unused[0]} has no use")
    _check_choice("training.strategy", training.strategy, ("none", "mirrored", "multi_worker"))
    _check_choice("data.channels", data.channels, (1, 3))
    check_fractions("data.split_fractions", data.split_fractions)
    _check_choice("data.resize", data.resize, ("stretch", "crop"))
    if data.name != "sinusoid" and data.way < 2:
        raise UserError(f"data.way is {data.way}: a task needs at least 2 classes")
    for name in ("mean", "std"):
        if len(getattr(data, name)) not in (1, data.channels):
            raise UserError(f"data.{name} needs one number, or one for each of the {data.channels} channels")
    if 0.0 in data.std:
        raise UserError("data.std must not be 0")
    for name, value in (("learner.adapted", learner.adapted), ("model.widths", model.widths)):
        if not value:
            raise UserError(f"{name} is empty")
    _check_together(config)


def _check_together(config: Config) -> None:
    """Refuses settings that contradict one another, or that would have no use."""
    data, model, learner = config.data, config.model, config.learner
    permutes = learner.label_permutations > 1
    if learner.first_order and learner.derivative_order_annealing:
        raise UserError("learner.first_order and learner.derivative_order_annealing contradict: choose one")
    if learner.batched_tasks and learner.rematerialise:
        raise UserError("learner.batched_tasks and learner.rematerialise contradict: choose one")
    if learner.shared_head and learner.elementwise_rates:
        raise UserError("learner.shared_head and learner.elementwise_rates contradict: choose one")
    if learner.shared_head and learner.adapted == "body":
        raise UserError("learner.shared_head needs the inner loop to adapt the head: learner.adapted=body does not")
    if learner.shared_head and permutes:
        raise UserError("learner.label_permutations has no use with learner.shared_head: no order of classes matters")
    for name, used in (("prototypes", learner.prototypes), ("shared_head", learner.shared_head)):
        if used and data.name == "sinusoid":
            raise UserError(f"learner.{name} needs classes: the sinusoid has none")
    if permutes and data.name == "sinusoid":
        raise UserError("learner.label_permutations needs classes: the sinusoid has none")
    # Not `filters`: configs set them, whatever the network that a flag then chooses.
    for name, network in (("blocks", "conv4"), ("strided", "conv4"), ("widths", "resnet12")):
        if model.name != network and getattr(model, name) != getattr(Model, name):
            raise UserError(f"model.{name} is for model.name={network}, not for '{model.name}'")
    if data.split_file and data.name in ("glyphs", "mini_imagenet", "sinusoid"):
        raise UserError(f"data.split_file has no use with data.name={data.name}, whose splits are given")
    if data.split_fractions != FRACTIONS:
        if data.split_file:
            raise UserError("data.split_fractions and data.split_file contradict: choose one")
        if data.name in ("glyphs", "omniglot", "mini_imagenet", "sinusoid"):
            raise UserError(f"data.split_fractions has no use with data.name={data.name}, whose splits are given")


_MAY_BE_ZERO = (
    "learner.minimum_rate",
    "learner.multi_step_loss_epochs",
    "learner.second_order_from_epoch",
    "data.split_seed",
)


_ANY_SIGN = ("data.mean", "data.std", "data.split_fractions")  # those of fractions: `check_fractions`


_LARGEST = 2**31 - 1


def _check_value(name: str, value: Any) -> None:
    """Refuses a number that is out of range, and a text that no file can be named."""
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, str) and "\0" in part:
            raise UserError(f"{name} is {part!r}: it has a character that is none")
        if isinstance(part, bool) or not isinstance(part, int | float):
            continue
        if not (-_LARGEST <= part <= _LARGEST if isinstance(part, int) else math.isfinite(part)):
            raise UserError(f"{name} is {str(part)[:40]}: it must be finite, and at most {_LARGEST} if it is whole")
        if name not in _ANY_SIGN and not (part > 0 or (part == 0 and name in _MAY_BE_ZERO)):
            raise UserError(f"{name} is {part}: it must be positive")


def _check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise UserError(f"{name} is one of {', '.join(map(str, choices))}, not '{value}'")


def _typed(name: str, value: Any, hint: Any) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            items = typing.get_args(option)
            if items[-1] is ... or len(items) == len(value):
                return tuple(_typed(name, item, items[0]) for item in value)
        if option is float and type(value) is int and abs(value) <= sys.float_info.max:
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise UserError(f"config key '{name}' is a {hint}, {value!r} is not one")
