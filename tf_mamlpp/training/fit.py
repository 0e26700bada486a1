"""The updates of a run, from where its checkpoints stand to its last epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.training.callbacks import MetricsFile, Progress, StabilityWarnings, StopOnNonFinite, UpdatesFile
from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.tensorboard import TensorBoard
from tf_mamlpp.workers import Workers


class Stage(NamedTuple):
    """What is fitted: a run's meta-training, or the pretraining before it.

    Attributes:
        name: before each epoch's number on the terminal.
        epochs, updates: how many, and how many of each.
        batches: from the number of the first one on.
        validation: after each epoch.
        drawn: meta-batches of one task, for TensorBoard's pictures; None without pictures.
        schedules: what changes between epochs.
        checkpoint_updates: between checkpoints.

    Example:
        >>> nothing = tf.data.Dataset.range(0)
        >>> Stage("Epoch", 10, 500, lambda start: nothing, nothing, nothing, Schedules(10), 100).epochs
        10
    """

    name: str
    epochs: int
    updates: int
    batches: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    drawn: tf.data.Dataset | None
    schedules: Schedules
    checkpoint_updates: int


def fit(
    stage: Stage, learner: EpisodicModel, checkpoints: Checkpoints, folder: Path, tensorboard: Path, workers: Workers
) -> None:
    """Trains from the restored update on; a part of an epoch first, if that is where the run stands.

    Args:
        stage: what is fitted.
        learner: compiled.
        checkpoints: of the learner, restored.
        folder: gets `metrics.jsonl` and `updates.csv`.
        tensorboard: gets the event files.
        workers: that train together.

    Example: two updates; `train.train_and_evaluate` does the same with a whole run.
        >>> from tf_mamlpp.config import Config, Data, Model
        >>> from tf_mamlpp.training.build import make_episodes, make_learner
        >>> config = Config(data=Data(name="sinusoid"), model=Model(name="mlp"))
        >>> few = make_episodes(config, None, "validation", 2, count=1)
        >>> batches = lambda start: make_episodes(config, None, "train", 2, start=start)
        >>> stage = Stage("Epoch", 1, 2, batches, few, few, Schedules(1), 100)
        >>> learner, workers = make_learner(config), Workers(tf.distribute.get_strategy())
        >>> checkpoints = Checkpoints(tmp_path / "checkpoints", learner)
        >>> fit(stage, learner, checkpoints, tmp_path, tmp_path / "tensorboard", workers)
        Epoch 1/1...
        >>> int(checkpoints.update)
        2
    """
    update = int(checkpoints.update)
    saver = SaveCheckpoints(
        checkpoints,
        start=update,
        every=stage.checkpoint_updates,
        updates=stage.updates,
        score=learner.metric_name,
        minimise=not learner.classifies,
        any_worker=workers.any,
    )
    callbacks = [stage.schedules, StopOnNonFinite(update)]
    if workers.chief:
        callbacks += _records(stage, folder, tensorboard, saver)
    callbacks.append(saver)  # last: what is saved has its records
    epoch, done = divmod(update, stage.updates)
    parts = [(epoch, epoch + 1, stage.updates - done)] if done else []
    parts.append((epoch + len(parts), stage.epochs, stage.updates))
    with saver.signals():
        for first, last, updates in parts:
            if first < last:
                learner.fit(
                    stage.batches(saver.update),
                    initial_epoch=first,
                    epochs=last,
                    steps_per_epoch=updates,
                    validation_data=stage.validation,
                    callbacks=callbacks,
                    verbose=0,
                )


def _records(stage: Stage, folder: Path, tensorboard: Path, saver: SaveCheckpoints) -> list[keras.callbacks.Callback]:
    """What writes into the run's folder and on the terminal."""
    metrics, updates = MetricsFile(folder / "metrics.jsonl", saver), UpdatesFile(folder / "updates.csv", saver)
    return [
        Progress(stage.epochs, stage.name),
        metrics,
        updates,
        StabilityWarnings(metrics.path, updates.path),
        TensorBoard(tensorboard, saver, stage.drawn),
    ]
