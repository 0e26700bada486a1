"""From a config to objects: data, learner, strategy."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp import data
from tf_mamlpp.config import Config
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.models import by_name
from tf_mamlpp.workers import join

Banks = Mapping[str, data.ImageBank] | None


def load_banks(config: Config) -> Banks:
    """The pictures of each split, checked against the task's shape; None for the sinusoid, which has none."""
    d = config.data
    if d.name == "sinusoid":
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
        cache_dir=d.cache_dir,
    )
    for bank in banks.values():
        data.check_bank(bank, d.way, d.shot, d.query_shot)
    return banks


def make_episodes(
    config: Config, banks: Banks, split: str, tasks: int, start: int = 0, count: int | None = None
) -> tf.data.Dataset:
    """Meta-batches `start`, `start + 1`, ... of a split, `tasks` tasks each."""
    d = config.data
    stream: dict[str, Any] = {
        "split": split,
        "tasks": tasks,
        "seed": config.seed,
        "start": start,
        "count": count,
    }
    if banks is None:
        return data.sinusoid_episodes(shot=d.shot, query_shot=d.query_shot, **stream)
    rotations = d.rotations and split == "train"
    return data.episodes(
        banks,
        way=d.way,
        shot=d.shot,
        query_shot=d.query_shot,
        rotations=rotations,
        mean=d.mean,
        std=d.std,
        **stream,
    )


def fixed_episodes(config: Config, banks: Banks, split: str, tasks: int, replicas: int = 1) -> tf.data.Dataset:
    """The first `tasks` tasks of an evaluation split, in meta-batches of up to 24 a replica that divide them.

    With `batched_tasks`, of no more than in training: they are in memory at once.
    """
    most = config.training.tasks // replicas if config.learner.batched_tasks else 24
    batch = max((n * replicas for n in range(1, most + 1) if tasks % (n * replicas) == 0), default=0)
    if not batch:
        raise UserError(
            f"{tasks} {split} tasks cannot be divided over {replicas} replicas: choose a multiple of them for "
            f"evaluation.{split}_tasks"
        )
    fixed = dataclasses.replace(config, seed=0)  # the same tasks for every seed of a study
    return make_episodes(fixed, banks, split, batch, count=tasks // batch)


def make_learner(config: Config) -> EpisodicModel:
    """The learner of this config, compiled; its weights depend on the seed alone."""
    keras.utils.set_random_seed(config.seed)
    d, kwargs = config.data, dataclasses.asdict(config.learner)
    regression = d.name == "sinusoid"
    shape: tuple[int, ...]
    shape, outputs = ((1,), 1) if regression else ((*d.image_size, d.channels), d.way)
    model = by_name.build(shape=shape, outputs=outputs, **dataclasses.asdict(config.model))
    learner: EpisodicModel
    if kwargs.pop("prototypes"):
        inner = inspect.signature(MetaLearner).parameters.keys() - inspect.signature(PrototypicalNetworks).parameters
        learner = PrototypicalNetworks(model, way=d.way, **{k: v for k, v in kwargs.items() if k not in inner})
    else:
        if regression:
            kwargs.update(loss="mean_squared_error", metric="mean_squared_error")
        learner = MetaLearner(model, way=None if regression else d.way, **kwargs)
    # The paper's epsilon; Keras's default is ten times larger.
    learner.compile(
        keras.optimizers.Adam(config.training.learning_rate, epsilon=1e-8),
        jit_compile=config.training.jit_compile,
    )
    return learner


def make_strategy(config: Config) -> tf.distribute.Strategy:
    """The distribution strategy; tasks, never the pictures of one, are divided over its replicas."""
    make = {"mirrored": tf.distribute.MirroredStrategy, "multi_worker": join}
    strategy = make.get(config.training.strategy, tf.distribute.get_strategy)()
    tasks, replicas = config.training.tasks, strategy.num_replicas_in_sync
    if tasks % replicas:
        raise UserError(f"training.tasks={tasks} cannot be divided over {replicas} replicas: choose a multiple of them")
    return strategy
