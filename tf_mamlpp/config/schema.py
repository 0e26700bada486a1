"""The sections of a config, each with its checks.  Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field

from tf_mamlpp.checks import check_choice, check_fields
from tf_mamlpp.data.augmentation import Augmentation
from tf_mamlpp.data.kinds import Kind, kind_of
from tf_mamlpp.data.sources.splits import FRACTIONS, check_fractions
from tf_mamlpp.data.sources.standard_lists import standard_file
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import Learner, method_name

_SPLITS_GIVEN = ("glyphs", "mini_imagenet", "sinusoid")  # sources whose classes are divided already


_NETWORKS = ("conv4", "resnet12", "mlp", "conv1d", "gru")


@contextlib.contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Puts a section's name before an error that begins with a setting's name, and has no section yet.

    Example:
        >>> with prefixed("learner."):
        ...     Learner(inner_steps=0)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: learner.inner_steps is 0: it must be positive
    """
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(prefix) else f"{prefix}{error}") from error


@dataclass(frozen=True)
class Data:
    """Where examples come from and what a task is.

    Example:
        >>> Data(name="omniglot", path="data/omniglot", way=20, mean=(0.5, 0.5))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: data.mean needs one number, or one for each of the 1 channels
    """

    name: str = "glyphs"  # glyphs, omniglot, mini_imagenet, image_folder, tfds:<name>, audio_folder, arrays, sinusoid
    path: str | None = None  # of the archives, the folder tree, TFDS's data_dir, or the arrays
    way: int = 5  # classes of a task
    shot: int = 1  # support examples a class
    query_shot: int = 1  # query examples a class
    image_size: tuple[int, int] = (28, 28)  # height, width
    channels: int = 1  # 1 grey, 3 RGB
    resize: str = "stretch"  # stretch, crop (the middle, in the wanted proportions): pictures of other proportions
    mean: tuple[float, ...] = (1.0,)  # of (x / 255 - mean) / std, one for each channel;
    std: tuple[float, ...] = (-1.0,)  # mean 1 and std -1 invert, so that ink is 1 and paper 0
    normalise: bool = True  # arrays: each feature to mean 0 and deviation 1 over the training classes
    sample_rate: int = 16000  # sound: samples a second; recordings of other rates are resampled
    seconds: float = 1.0  # sound: length of a recording; others are padded, or their loudest part is taken
    window: float = 0.03  # sound: seconds of one spectrum of the spectrogram
    hop: float = 0.02  # sound: seconds from one spectrum to the next
    mel_bands: int = 40  # sound: numbers of a spectrum
    rotations: bool = False  # training tasks turn each class by a random multiple of 90 degrees
    split_seed: int = 0  # shuffles classes into train, validation and test
    split_fractions: tuple[float, float, float] = FRACTIONS  # of the classes, for train, validation and test
    split_file: str | None = None  # JSON lists of the classes of each split, or standard:<name>, instead
    skip_damaged: bool = False  # leave out pictures that cannot be read, instead of an error
    cache_dir: str | None = None  # of decoded pictures; None for ~/.cache/tf_mamlpp

    def __post_init__(self) -> None:
        with prefixed("data."):
            check_fields(self, zero=("split_seed",), negative=("mean", "std", "split_fractions"))
            self._check_kind()
            check_choice("channels", self.channels, (1, 3))
            check_choice("resize", self.resize, ("stretch", "crop"))
            check_fractions("split_fractions", self.split_fractions)
            if not self.is_regression and self.way < 2:
                raise UserError(f"way is {self.way}: a task needs at least 2 classes")
            for name, values in (("mean", self.mean), ("std", self.std)):
                if len(values) not in (1, self.channels):
                    raise UserError(f"{name} needs one number, or one for each of the {self.channels} channels")
            if 0.0 in self.std:
                raise UserError("std must not be 0")
            self._check_sound()
            self._check_splits()

    def _check_kind(self) -> None:
        """Refuses settings of other data; but a curve has none at all, and earlier versions ignored them."""
        if not self.is_regression:
            fields = {field.name: field.default for field in dataclasses.fields(self)}
            self.kind.check_settings(self.name, {name: getattr(self, name) for name in fields}, fields)

    def _check_sound(self) -> None:
        if not 1 / self.sample_rate <= self.hop <= self.window <= self.seconds:
            raise UserError(
                f"hop={self.hop}, window={self.window} and seconds={self.seconds} must rise in this order, from one "
                f"sample on, which is 1/{self.sample_rate} s"
            )

    def _check_splits(self) -> None:
        if self.skip_damaged and self.name in ("glyphs", "sinusoid"):
            raise UserError(f"skip_damaged has no use with data.name={self.name}, which reads no pictures")
        if self.split_file:
            standard_file(self.split_file)  # refuses an unknown one
            if self.name in _SPLITS_GIVEN:
                raise UserError(f"split_file has no use with data.name={self.name}, whose splits are given")
        if self.split_fractions != FRACTIONS:
            if self.split_file:
                raise UserError("split_fractions and data.split_file contradict: choose one")
            if self.name in (*_SPLITS_GIVEN, "omniglot"):
                raise UserError(f"split_fractions has no use with data.name={self.name}, whose splits are given")

    @property
    def kind(self) -> Kind:
        """What its examples are."""
        return kind_of(self.name)

    @property
    def is_regression(self) -> bool:
        """Whether tasks are curves to fit, and not classes to tell apart."""
        return self.kind.is_regression


@dataclass(frozen=True)
class Model:
    """The network.

    Example:
        >>> Model(name="resnet12", blocks=3)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model.blocks is for model.name=conv4 or conv1d, not for 'resnet12'
    """

    name: str = "conv4"  # conv4, resnet12, mlp, conv1d, gru, keras:<name in keras.applications>, <module>:<function>
    filters: int = 64  # of every block of conv4 and conv1d; units of gru
    blocks: int = 4  # of conv4 and conv1d
    strided: bool = False  # conv4 with strides and a global average pool instead of max-pools
    widths: tuple[int, ...] = (64, 160, 320, 640)  # filters of resnet12's blocks
    weights: str | None = None  # weights file (without the top) for keras:<name>; None starts from random ones
    dtype: str = "float32"  # float32, mixed_bfloat16 (weights stay float32)

    def __post_init__(self) -> None:
        with prefixed("model."):
            check_fields(self)
            if ":" not in self.name:
                check_choice("name", self.name, (*_NETWORKS, "keras:<name>", "<module>:<function>"))
            check_choice("dtype", self.dtype, ("float32", "mixed_bfloat16"))
            if self.weights and not self.name.startswith("keras:"):
                raise UserError(f"weights is for model.name=keras:<name>, not for '{self.name}'")
            if not self.widths:
                raise UserError("widths is empty")
            # Not `filters`: configs set them, whatever the network that a flag then chooses.
            for name, networks in (("blocks", ("conv4", "conv1d")), ("strided", ("conv4",)), ("widths", ("resnet12",))):
                if self.name not in networks and getattr(self, name) != getattr(Model, name):
                    raise UserError(f"{name} is for model.name={' or '.join(networks)}, not for '{self.name}'")


@dataclass(frozen=True)
class Pretrain:
    """Classification of all training classes before meta-training, which then begins with its best features.

    Example:
        >>> Pretrain(epochs=10, batch=128, parts=3)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: pretrain.batch=128 cannot be divided into 3 parts
    """

    epochs: int = 0  # 0 leaves it out
    batch: int = 128  # pictures of an update
    parts: int = 4  # of a batch, computed beside each other; batch norm normalises each by itself
    learning_rate: float = 0.1  # SGD's with Nesterov momentum, annealed to 0 by a cosine
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True  # with the section `augmentation`

    def __post_init__(self) -> None:
        with prefixed("pretrain."):
            check_fields(self, zero=("epochs", "momentum", "weight_decay"))
            if self.batch % self.parts:
                raise UserError(f"batch={self.batch} cannot be divided into {self.parts} parts")
            if self.batch == self.parts:
                raise UserError(
                    f"batch={self.batch} leaves one picture for each of {self.parts} parts: batch norm needs more"
                )
            if self.momentum >= 1:
                raise UserError(f"momentum is {self.momentum}: it must be less than 1")


@dataclass(frozen=True)
class Training:
    """The outer loop.

    Example:
        >>> Training(epochs=0)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: training.epochs is 0: it must be positive
    """

    epochs: int = 10
    updates: int = 500  # an epoch
    tasks: int = 8  # an update
    learning_rate: float = 1e-3  # Adam's
    start: str | None = None  # a run's folder, a .keras or a .weights.h5 file whose weights the run begins with
    augment: bool = True  # with the section `augmentation`
    annealing_epochs: int | None = None  # until learner.cosine_annealing ends; None for `epochs`
    checkpoint_updates: int = 100  # between checkpoints; every epoch ends with one too
    strategy: str = "none"  # none, mirrored (all GPUs of this machine), multi_worker (machines of TF_CONFIG)
    jit_compile: bool = False  # XLA; far slower on a CPU

    def __post_init__(self) -> None:
        with prefixed("training."):
            check_fields(self)
            check_choice("strategy", self.strategy, ("none", "mirrored", "multi_worker"))


@dataclass(frozen=True)
class Evaluation:
    """Validation after every epoch and the test at the end.

    Example:
        >>> Evaluation(test_tasks=-1)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: evaluation.test_tasks is -1: it must be positive
    """

    validation_tasks: int = 600
    test_tasks: int = 600
    ensemble: int = 5  # best validation epochs whose softmax the test averages (fewer if there are fewer)

    def __post_init__(self) -> None:
        with prefixed("evaluation."):
            check_fields(self)


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on.

    Raises:
        UserError: a value of another type or out of range, or settings that contradict one another or have no use.

    Example:
        >>> from tf_mamlpp.meta.settings import presets
        >>> Config(data=Data(way=20), learner=Learner(**presets["maml++"])).method
        'maml++'
    """

    seed: int = 0
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    learner: Learner = field(default_factory=Learner)
    augmentation: Augmentation = field(default_factory=Augmentation)
    pretrain: Pretrain = field(default_factory=Pretrain)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        if type(self.seed) is not int or not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed!r}: it must be an integer from 0 to {2**32 - 1}")
        for section, kind in typing.get_type_hints(Config).items():
            if section != "seed" and not isinstance(getattr(self, section), kind):
                raise UserError(f"config key '{section}' is a {kind.__name__}, {getattr(self, section)!r} is not one")
        if not isinstance(self.learner.adapted, str):
            raise UserError("learner.adapted is a text in a config, which is kept as JSON: a function is not one")
        with prefixed("learner."):
            self.learner.check_way(None if self.is_regression else self.data.way)
        self._check_stages()

    def _check_stages(self) -> None:
        """Refuses stages and augmentation that do not go with the data or with each other."""
        if not self.data.kind.is_pictures and self.augmentation.active:
            raise UserError(f"augmentation has no use with data.name={self.data.name}, which has no pictures")
        if self.is_regression:
            if self.pretrain.epochs:
                raise UserError(f"pretrain.epochs has no use with data.name={self.data.name}, which has no classes")
            return
        if self.data.kind.is_pictures:
            with prefixed("augmentation."):
                self.augmentation.check_pictures(self.data.image_size, self.data.channels)
        if self.pretrain.epochs and self.training.start:
            raise UserError("pretrain.epochs and training.start contradict each other: both give the first weights")
        if self.pretrain.epochs and self.training.strategy == "multi_worker":
            raise UserError(
                "pretrain.epochs is for one machine: pretrain with training.strategy=none, and resume with "
                "multi_worker from the first checkpoint on"
            )

    @property
    def is_regression(self) -> bool:
        """Whether tasks are curves to fit, and not classes to tell apart."""
        return self.data.is_regression

    @property
    def method(self) -> str:
        """The method's name, with what differs from the nearest preset."""
        return method_name(dataclasses.asdict(self.learner))

    @property
    def metric(self) -> str:
        """What validation and test measure."""
        return "mean_squared_error" if self.is_regression else "accuracy"


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
