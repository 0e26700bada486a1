"""From a config to objects: data, learner, strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp import data
from tf_mamlpp.config import Config, Data
from tf_mamlpp.data.picture_files import subfolders
from tf_mamlpp.data.sources.split_folders import split_folders
from tf_mamlpp.data.sources.splits import SplitFile
from tf_mamlpp.data.support_copies import SupportCopies
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded
from tf_mamlpp.meta.classifier import Classifier
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.settings import WITHOUT_INNER_LOOP
from tf_mamlpp.models import by_name
from tf_mamlpp.training.run_classes import check_classes
from tf_mamlpp.workers import join

Banks = Mapping[str, data.ImageBank] | None
"""The pictures of each split; None for a regression, which has none."""


def load_banks(config: Config, known: SplitFile | None = None, workdir: Path = Path()) -> Banks:
    """The pictures of each split, checked against the task's shape; prints how the data were divided.

    Args:
        config: of the run.
        known: the classes of the run, if it has begun: the data must have the same.
        workdir: of that run.

    Raises:
        UserError: they are missing, damaged or too few, or not of the run's classes.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> load_banks(Config(data=Data(name="sinusoid"))) is None
        True
    """
    d = config.data
    if config.is_regression:
        return None
    banks = data.load_banks(
        d.name,
        d.path,
        image_size=d.image_size,
        channels=d.channels,
        resize=d.resize,
        split_seed=d.split_seed,
        split_fractions=d.split_fractions,
        split_file=d.split_file,
        skip_damaged=d.skip_damaged,
        cache_dir=d.cache_dir,
    )
    if d.name != "glyphs":
        print(_division(d, banks), flush=True)
    if known is not None:
        check_classes(known, banks, workdir, d.split_fractions)
    for bank in banks.values():
        data.check_bank(bank, d.way, d.shot, d.query_shot)
    return banks


def _division(d: Data, banks: Mapping[str, data.ImageBank]) -> str:
    """In one line: how the data were read, and the classes and pictures of each split."""
    folders, unread = None, list[str]()
    if d.split_file is None and d.path is not None and d.name in ("image_folder", "mini_imagenet"):
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
    parts = [f"{split} {len(b.class_names)} classes ({len(b.images)} pictures)" for split, b in banks.items()]
    left = f"; not read: {', '.join(unread[:3])}{', ...' if len(unread) > 3 else ''}" if unread else ""
    return f"{d.path or d.name}: {how}: {', '.join(parts)}{left}"


def make_episodes(
    config: Config,
    banks: Banks,
    split: str,
    tasks: int,
    start: int = 0,
    count: int | None = None,
    support_copies: SupportCopies | None = None,
    unknown: int = 0,
) -> tf.data.Dataset:
    """Meta-batches of a split.

    Args:
        config: of the run.
        banks: what `load_banks` gave.
        split: `train`, `validation` or `test`, or another key of `banks`.
        tasks: of a meta-batch.
        start: number of the first meta-batch.
        count: how many meta-batches; None for no end.
        unknown: pictures of other classes for each task, see `sample_task`.
        support_copies: added to the support sets.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> config = Config(data=Data(name="sinusoid", shot=10))
        >>> next(iter(make_episodes(config, None, "train", tasks=4)))["support_images"].shape
        TensorShape([4, 10, 1])
    """
    d = config.data
    stream: dict[str, Any] = {"split": split, "tasks": tasks, "seed": config.seed, "start": start, "count": count}
    if banks is None:
        return data.sinusoid_episodes(shot=d.shot, query_shot=d.query_shot, **stream)
    return data.episodes(
        banks,
        way=d.way,
        shot=d.shot,
        query_shot=d.query_shot,
        rotations=d.rotations and split == "train",
        augmentation=config.augmentation if split == "train" and config.training.augment else None,
        support_copies=support_copies,
        mean=d.mean,
        std=d.std,
        unknown=unknown,
        **stream,
    )


def fixed_episodes(
    config: Config,
    banks: Banks,
    split: str,
    tasks: int,
    replicas: int = 1,
    support_copies: SupportCopies | None = None,
    unknown: int = 0,
) -> tf.data.Dataset:
    """The first tasks of an evaluation split, the same for every seed of a config.

    They come in meta-batches of up to 24 tasks a replica; with `batched_tasks`, of no more than in training, since
    all are in memory at once.

    Args:
        config, banks, split, support_copies: as for `make_episodes`.
        tasks: how many in all.
        replicas: that a meta-batch is divided over.
        unknown: pictures of other classes for each task, see `sample_task`.

    Raises:
        UserError: the tasks cannot be divided over the replicas.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> tasks = fixed_episodes(Config(data=Data(name="sinusoid")), None, "test", tasks=100)
        >>> [len(batch["query_labels"]) for batch in tasks]
        [20, 20, 20, 20, 20]
    """
    most = config.training.tasks // replicas if config.learner.batched_tasks else 24
    batch = max((n * replicas for n in range(1, most + 1) if tasks % (n * replicas) == 0), default=0)
    if not batch:
        raise UserError(
            f"{tasks} {split} tasks cannot be divided over {replicas} replicas: choose a multiple of them for "
            f"evaluation.{split}_tasks"
        )
    same_for_every_seed = dataclasses.replace(config, seed=0)
    stream: dict[str, Any] = {"count": tasks // batch, "support_copies": support_copies, "unknown": unknown}
    return make_episodes(same_for_every_seed, banks, split, batch, **stream)


def make_model(config: Config) -> keras.Model:
    """The network of a config; its weights depend on the seed alone.

    Raises:
        UserError: it cannot be built.

    Example:
        >>> from tf_mamlpp.config import Model
        >>> make_model(Config(model=Model(name="mlp"))).output_shape
        (None, 5)
    """
    keras.utils.set_random_seed(config.seed)
    d = config.data
    shape: tuple[int, ...]
    shape, outputs = ((1,), 1) if config.is_regression else ((*d.image_size, d.channels), d.way)
    return by_name.build(shape=shape, outputs=outputs, **dataclasses.asdict(config.model))


def make_learner(config: Config) -> EpisodicModel:
    """The learner of a config, compiled; its weights depend on the seed alone.

    Raises:
        UserError: a model that cannot be built or does not fit.

    Example:
        >>> from tf_mamlpp.config import Data, Model
        >>> learner = make_learner(Config(data=Data(name="sinusoid"), model=Model(name="mlp")))
        >>> learner.metric_name, learner.count_params()
        ('mean_squared_error', 1796)
    """
    d, settings = config.data, dataclasses.asdict(config.learner)
    model = make_model(config)
    learner: EpisodicModel
    if config.learner.prototypes:
        learner = PrototypicalNetworks(model, way=d.way, **{name: settings[name] for name in WITHOUT_INNER_LOOP})
    elif config.is_regression:
        learner = MetaLearner(model, loss=config.metric, metric=config.metric, **settings)
    else:
        learner = MetaLearner(model, way=d.way, **settings)
    # The paper's epsilon; Keras's default is ten times larger.
    learner.compile(
        keras.optimizers.Adam(config.training.learning_rate, epsilon=1e-8),
        jit_compile=config.training.jit_compile,
    )
    return learner


def make_classifier(config: Config, classes: int) -> Classifier:
    """The classifier of a config's pretraining, compiled; its weights depend on the seed alone.

    Args:
        config: of the run.
        classes: of the training data; with `data.rotations`, a class that is turned is a class of its own.

    Raises:
        UserError: a model that cannot be built or does not fit.

    Example:
        >>> tuple(make_classifier(Config(), classes=64).kernel.shape)
        (64, 64)
    """
    p = config.pretrain
    classifier = Classifier(
        make_model(config),
        classes=4 * classes if config.data.rotations else classes,
        way=config.data.way,
        weight_decay=p.weight_decay,
        cosine_annealing=True,
        minimum_rate=0.0,
        parallel_tasks=config.learner.parallel_tasks,
    )
    optimizer = keras.optimizers.SGD(p.learning_rate, momentum=p.momentum, nesterov=p.momentum > 0)
    classifier.compile(optimizer, jit_compile=config.training.jit_compile)
    return classifier


def make_strategy(config: Config) -> tf.distribute.Strategy:
    """The distribution strategy; tasks, never the pictures of one, are divided over its replicas.

    Raises:
        UserError: the tasks of an update cannot be divided over the replicas, or other workers cannot be joined.

    Example:
        >>> make_strategy(Config()).num_replicas_in_sync
        1
    """
    make = {"mirrored": tf.distribute.MirroredStrategy, "multi_worker": join}
    strategy = make.get(config.training.strategy, tf.distribute.get_strategy)()
    replicas = strategy.num_replicas_in_sync
    parts = config.pretrain.parts if config.pretrain.epochs else 0
    for name, count in (("training.tasks", config.training.tasks), ("pretrain.parts", parts)):
        if count % replicas:
            raise UserError(f"{name}={count} cannot be divided over {replicas} replicas: choose a multiple of them")
    return strategy
