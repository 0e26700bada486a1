"""From a config to objects: data, learner, strategy."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp import data
from tf_mamlpp.config import Config
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.support_copies import SupportCopies
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.classifier import Classifier
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.settings import WITHOUT_INNER_LOOP
from tf_mamlpp.models import by_name
from tf_mamlpp.training.run_banks import Banks
from tf_mamlpp.training.run_inputs import config_inputs
from tf_mamlpp.workers import join


def make_episodes(
    config: Config,
    banks: Banks,
    split: str,
    tasks: int,
    start: int = 0,
    count: int | None = None,
    support_copies: SupportCopies | None = None,
    unknown: int = 0,
    prepared: bool = True,
) -> tf.data.Dataset:
    """Meta-batches of a split.

    Args:
        config: of the run.
        banks: what `load_banks` gave.
        split: `train`, `validation` or `test`, or another key of `banks`.
        tasks: of a meta-batch.
        start: number of the first meta-batch.
        count: how many meta-batches; None for no end.
        support_copies: added to the support sets.
        unknown: examples of other classes for each task, see `sample_task`.
        prepared: whether examples are as the model takes them; else they are as the bank has them.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> config = Config(data=Data(name="sinusoid", shot=10))
        >>> next(iter(make_episodes(config, None, "train", tasks=4)))["support_images"].shape
        TensorShape([4, 10, 1])
    """
    d, augments = config.data, split == "train" and config.training.augment
    stream: dict[str, Any] = {"split": split, "tasks": tasks, "seed": config.seed, "start": start, "count": count}
    if banks is None:
        return data.sinusoid_episodes(shot=d.shot, query_shot=d.query_shot, **stream)
    return data.episodes(
        banks,
        way=d.way,
        shot=d.shot,
        query_shot=d.query_shot,
        rotations=d.rotations and split == "train",
        augmentation=config.augmentation if augments and config.augmentation.active else None,
        support_copies=support_copies,
        unknown=unknown,
        prepared=prepared,
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
    prepared: bool = True,
) -> tf.data.Dataset:
    """The first tasks of an evaluation split, the same for every seed of a config.

    They come in meta-batches of up to 24 tasks a replica; with `batched_tasks`, of no more than in training, since
    all are in memory at once.

    Args:
        config, banks, split, support_copies, unknown, prepared: as for `make_episodes`.
        tasks: how many in all.
        replicas: that a meta-batch is divided over.

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
    stream["prepared"] = prepared
    return make_episodes(same_for_every_seed, banks, split, batch, **stream)


def drawn_tasks(config: Config, banks: Banks) -> tf.data.Dataset | None:
    """A few validation tasks to show in TensorBoard, one by one; None where examples are no pictures.

    Args:
        config, banks: of the run.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> drawn_tasks(Config(data=Data(name="sinusoid")), None) is None
        True
    """
    if not config.data.kind.is_pictures:
        return None
    return make_episodes(dataclasses.replace(config, seed=0), banks, "validation", 1, count=4)


def make_model(config: Config, inputs: InputFormat | None = None) -> keras.Model:
    """The network of a config; its weights depend on the seed alone.

    Args:
        config: of the run.
        inputs: what it takes, see `run_inputs`; None where the config tells it.

    Raises:
        UserError: it cannot be built.

    Example:
        >>> from tf_mamlpp.config import Model
        >>> make_model(Config(model=Model(name="mlp"))).output_shape
        (None, 5)
    """
    keras.utils.set_random_seed(config.seed)
    inputs = inputs or config_inputs(config)
    assert inputs is not None, "the data tell what an example is: load them first"
    outputs = 1 if config.is_regression else config.data.way
    settings = dataclasses.asdict(config.model)
    return by_name.build(shape=inputs.shape, outputs=outputs, inputs_dtype=inputs.dtype, **settings)


def make_learner(config: Config, inputs: InputFormat | None = None) -> EpisodicModel:
    """The learner of a config, compiled; its weights depend on the seed alone.

    Args:
        config, inputs: as for `make_model`.

    Raises:
        UserError: a model that cannot be built or does not fit.

    Example:
        >>> from tf_mamlpp.config import Data, Model
        >>> learner = make_learner(Config(data=Data(name="sinusoid"), model=Model(name="mlp")))
        >>> learner.metric_name, learner.count_params()
        ('mean_squared_error', 1796)
    """
    d, settings = config.data, dataclasses.asdict(config.learner)
    model = make_model(config, inputs)
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


def make_classifier(config: Config, classes: int, inputs: InputFormat | None = None) -> Classifier:
    """The classifier of a config's pretraining, compiled; its weights depend on the seed alone.

    Args:
        config: of the run.
        classes: of the training data; with `data.rotations`, a class that is turned is a class of its own.
        inputs: as for `make_model`.

    Raises:
        UserError: a model that cannot be built or does not fit.

    Example:
        >>> tuple(make_classifier(Config(), classes=64).kernel.shape)
        (64, 64)
    """
    p = config.pretrain
    classifier = Classifier(
        make_model(config, inputs),
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
