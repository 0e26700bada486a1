"""How many epochs a run can have in a given time: `minutes=` of a config's argument."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.data.picture_batches import updates_per_epoch
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.schedules import phase_of
from tf_mamlpp.text import duration
from tf_mamlpp.training.build import (
    fixed_episodes,
    make_classifier,
    make_episodes,
    make_learner,
    make_strategy,
)
from tf_mamlpp.training.pretrain import training_batches
from tf_mamlpp.training.run_banks import Banks, load_banks
from tf_mamlpp.training.run_inputs import config_inputs
from tf_mamlpp.training.workdir import holds_run, read_config

_MEASURED = 3  # updates of each kind, after the first, which is traced


def within(minutes: float, flag: str, overrides: Sequence[str], workdir: Path) -> Config:
    """The config with as many epochs as a time allows at the speed of this machine, as it is now.

    The speed is measured: a few updates of each phase, of pretraining and of validation.  A run that has begun keeps
    its number of epochs.

    Args:
        minutes: for the whole run, with pretraining, validation and test.
        flag: the config's file and argument, which takes `epochs=`.
        overrides: as for `config.load`.
        workdir: of the run.

    Raises:
        UserError: as for a run of this config.

    Example: a run that has begun keeps its epochs, and nothing is measured.
        >>> file = tmp_path / "mine.py"
        >>> _ = file.write_text('''
        ... from tf_mamlpp.config import Config, Training, parse_argument
        ... def get_config(argument):
        ...     return Config(training=Training(epochs=parse_argument(argument, epochs=9).epochs))
        ... ''')
        >>> (tmp_path / "checkpoints").mkdir()
        >>> (tmp_path / "checkpoints" / "update-1.index").touch()
        >>> from tf_mamlpp.files import write_json
        >>> write_json(tmp_path / "config.json", configs.to_dict(configs.load(f"{file}:epochs=4")))
        >>> within(60, str(file), [], tmp_path).training.epochs
        4
    """
    if holds_run(workdir):
        return configs.load(_with_epochs(flag, read_config(workdir).training.epochs), overrides)
    config = configs.load(flag, overrides)
    once, per_epoch = _seconds(config)
    epochs = max(1, int((60 * minutes - once) / per_epoch))
    print(
        f"{minutes:g} minutes: {epochs} epochs, about {duration(per_epoch)} each, and {duration(once)} for the rest; "
        "the run keeps this number",
        flush=True,
    )
    return configs.load(_with_epochs(flag, epochs), overrides)


def _with_epochs(flag: str, epochs: int) -> str:
    file, _, argument = flag.partition(":")
    items = [item for item in argument.split(",") if item and not item.startswith("epochs=")]
    return f"{file}:{','.join([*items, f'epochs={epochs}'])}"


def _seconds(config: Config) -> tuple[float, float]:
    """What a run takes once, and for each epoch."""
    strategy = make_strategy(config)
    inputs, banks = config_inputs(config), None
    if inputs is None:
        banks = load_banks(config)
        inputs = banks["train"].inputs if banks else None
    with strategy.scope():
        learner = make_learner(config, inputs)
    banks, replicas = banks or load_banks(config), strategy.num_replicas_in_sync
    tasks = make_episodes(config, banks, "train", config.training.tasks)
    update = 0.0
    for epoch, share in _phases(config).items():
        learner.set_epoch(epoch)
        update += share * _update_seconds(learner, tasks)
    evaluation = config.evaluation
    batches = fixed_episodes(config, banks, "validation", evaluation.validation_tasks, replicas)
    learner.make_test_function()
    each = _call_seconds(learner.test_function, batches, 1)
    validation = each * evaluation.validation_tasks / _tasks_of(batches)
    models = evaluation.ensemble + (evaluation.ensemble > 1)
    once = validation / evaluation.validation_tasks * evaluation.test_tasks * models
    if config.pretrain.epochs:
        once += config.pretrain.epochs * (_pretraining_seconds(config, banks, strategy) + validation)
    return once, config.training.updates * update + validation


def _phases(config: Config) -> dict[int, float]:
    """An epoch of each phase, and the share of epochs that are like it."""
    epochs, first = config.training.epochs, dict[Any, int]()
    count: Counter[Any] = Counter()
    for epoch in range(epochs):
        phase = phase_of(epoch, config.learner)
        first.setdefault(phase, epoch)
        count[phase] += 1
    return {first[phase]: number / epochs for phase, number in count.items()}


def _update_seconds(learner: EpisodicModel, data: tf.data.Dataset) -> float:
    learner.make_train_function(force=True)
    return _call_seconds(learner.train_function, data, _MEASURED)


def _pretraining_seconds(config: Config, banks: Banks, strategy: tf.distribute.Strategy) -> float:
    """Of an epoch, without its validation."""
    assert banks is not None
    with strategy.scope():
        classifier = make_classifier(config, len(banks["train"].class_names), banks["train"].inputs)
    updates = updates_per_epoch(banks["train"], config.pretrain.batch)
    return updates * _update_seconds(classifier, training_batches(config, banks))


def _call_seconds(function: Callable[[Any], Any], data: tf.data.Dataset, count: int) -> float:
    """The median time of a step, with its data, after the first, which is traced."""
    elements = iter(data.repeat())
    times = []
    for _ in range(count + 1):
        began = time.monotonic()
        tf.nest.map_structure(np.asarray, function(elements))
        times.append(time.monotonic() - began)
    return float(np.median(times[1:]))


def _tasks_of(batches: tf.data.Dataset) -> int:
    return math.prod(batches.element_spec["query_labels"].shape[:1])
