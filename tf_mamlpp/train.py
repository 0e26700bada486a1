"""A run from config to results: `train_and_evaluate`."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp import config as configs
from tf_mamlpp import data, models
from tf_mamlpp.callbacks import (
    MetricsFile,
    Progress,
    SaveCheckpoints,
    StabilityWarnings,
    StopOnNonFinite,
    UpdatesFile,
)
from tf_mamlpp.checkpoints import Checkpoints
from tf_mamlpp.config import Config
from tf_mamlpp.data.baseline import nearest_class_mean_accuracy
from tf_mamlpp.episodic import EpisodicModel
from tf_mamlpp.errors import UserError, reason, writing
from tf_mamlpp.evaluation import evaluate
from tf_mamlpp.meta_learner import MetaLearner
from tf_mamlpp.prototypes import PrototypicalNetworks
from tf_mamlpp.run_record import read_json
from tf_mamlpp.schedules import Schedules
from tf_mamlpp.tensorboard import TensorBoard
from tf_mamlpp.workdir import claimed, write_json
from tf_mamlpp.workers import Workers, join

Banks = Mapping[str, data.ImageBank] | None


# --- From config to objects -----------------------------------------------------------------------------


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
    model = models.build(shape=shape, outputs=outputs, **dataclasses.asdict(config.model))
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


# --- The run's folder ----------------------------------------------------------------------------------


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


# --- The run ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _memory_told() -> Iterator[None]:
    """Makes one clear error of too little memory."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.AlreadyExistsError, MemoryError) as error:
        # AlreadyExists: where TensorFlow expects memory to run short, it makes temporary variables of sums, which clash
        # in loops.
        raise UserError(
            f"out of memory ({reason(error)}): a smaller learner.parallel_tasks or training.tasks needs less, and so "
            "does learner.rematerialise, learner.batched_tasks=false, or a smaller model"
        ) from error


@_memory_told()
def train_and_evaluate(config: Config, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Trains or resumes the run in `workdir`, validates every epoch, tests at the end.

    With `training.strategy=multi_worker` all workers call it and get the same results; the chief alone reads and
    writes the folder and tests.

    Args:
        config: what to run.
        workdir: gets `config.json`, `metrics.jsonl`, `updates.csv`, `checkpoints/`, `tensorboard/`, `test_tasks.csv`
            and `results.json`.

    Returns:
        The results: the test of the ensemble, with the single best epoch's beside it.

    Raises:
        UserError: a mistake that the message tells how to mend.
    """
    workdir = Path(workdir)
    strategy = make_strategy(config)
    workers = Workers(strategy)
    with workers.losses_told(), workdir_for(config, workdir) if workers.chief else contextlib.nullcontext():
        check_same(config, workers)
        with strategy.scope():
            learner = make_learner(config)
        banks = load_banks(config)  # after the learner: a wrong model is told before pictures are decoded
        checkpoints = Checkpoints(workdir / "checkpoints", learner, config.evaluation.ensemble, workers)
        update = checkpoints.restore_latest()
        checkpoints.forget_best_after(update)
        if update:
            print(f"resuming '{workdir}' after update {update}", flush=True)
        _fit(config, banks, learner, checkpoints, workdir, workers, strategy.num_replicas_in_sync)
        results = None
        if workers.chief:
            results = run_results(config, banks, learner, checkpoints, workdir / "test_tasks.csv")
            write_json(workdir / "results.json", results)
        return workers.share(results)


def check_same(config: Config, workers: Workers) -> None:
    """Refuses a worker that was started with another config than the chief."""
    changed = configs.differences(configs.from_dict(workers.share(configs.to_dict(config))), config)
    if changed:
        raise UserError(f"this worker's config is not the chief's ({'; '.join(changed[:3])}): start all with the same")


def _fit(
    config: Config,
    banks: Banks,
    learner: EpisodicModel,
    checkpoints: Checkpoints,
    workdir: Path,
    workers: Workers,
    replicas: int,
) -> None:
    """Trains from the restored update on; a part of an epoch first, if that is where the run stands."""
    t, update = config.training, int(checkpoints.update)
    validation = fixed_episodes(config, banks, "validation", config.evaluation.validation_tasks, replicas)
    saver = SaveCheckpoints(
        checkpoints,
        start=update,
        every=t.checkpoint_updates,
        updates=t.updates,
        score=learner.metric_name,
        minimise=not learner.classifies,
        any_worker=workers.any,
    )
    callbacks: list[keras.callbacks.Callback] = [Schedules(t.epochs, t.learning_rate), StopOnNonFinite(update)]
    if workers.chief:
        callbacks += [
            Progress(t.epochs),
            metrics := MetricsFile(workdir / "metrics.jsonl", saver),
            series := UpdatesFile(workdir / "updates.csv", saver),
            StabilityWarnings(metrics.path, series.path),
            TensorBoard(
                workdir / "tensorboard",
                saver,
                make_episodes(dataclasses.replace(config, seed=0), banks, "validation", 1, count=4),
            ),
        ]
    callbacks.append(saver)
    epoch, done = divmod(update, t.updates)
    parts = [(epoch, epoch + 1, t.updates - done)] if done else []
    parts.append((epoch + len(parts), t.epochs, t.updates))
    with saver.signals():
        for first, last, updates in parts:
            if first < last:
                learner.fit(
                    make_episodes(config, banks, "train", t.tasks, start=saver.update),
                    initial_epoch=first,
                    epochs=last,
                    steps_per_epoch=updates,
                    validation_data=validation,
                    callbacks=callbacks,
                    verbose=0,
                )


def run_results(
    config: Config, banks: Banks, learner: EpisodicModel, checkpoints: Checkpoints, tasks: Path
) -> dict[str, Any]:
    """Tests the ensemble of the best epochs, and the best one alone; the CSV file `tasks` gets each task's metric."""
    ensemble, of_ensemble = describe(config, banks, learner, checkpoints)
    alone = ensemble["ensemble"] == 1
    single, of_single = (ensemble, of_ensemble) if alone else describe(config, banks, learner, checkpoints, ensemble=1)
    lines = [f"{i},{a:.6g},{b:.6g}" for i, (a, b) in enumerate(zip(of_ensemble, of_single, strict=True))]
    tasks.write_text("\n".join(["task,ensemble,single_model", *lines, ""]))
    metric = learner.metric_name
    if banks is not None:
        d = config.data
        for name, measure in (
            ("nearest_pixel", data.nearest_pixel_accuracy),
            ("nearest_class_mean", nearest_class_mean_accuracy),
        ):
            value, half = measure(
                banks["test"],
                way=d.way,
                shot=d.shot,
                query_shot=d.query_shot,
                tasks=ensemble["tasks"],
                seed=0,
                split="test",
            )
            ensemble[name] = {"accuracy": value, "confidence_95": half}
    ensemble["single_model"] = {name: single[name] for name in (metric, "confidence_95", f"{metric}_per_inner_step")}
    return ensemble


def describe(
    config: Config,
    banks: Banks,
    learner: EpisodicModel,
    checkpoints: Checkpoints,
    *,
    split: str = "test",
    tasks: int | None = None,
    query_statistics: str | None = None,
    ensemble: int | None = None,
    inner_steps: int | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Evaluates the run's best epochs on fixed tasks; None takes the config's setting.

    Returns:
        Everything that a reported number needs beside it (docs/results.md has the keys), and the metric of every task,
        `[tasks]`.
    """
    count = tasks or config.evaluation.test_tasks
    members = min(ensemble or config.evaluation.ensemble, len(checkpoints.best))
    if not members:
        raise UserError(f"'{checkpoints.folder}' lists no finished epoch in best.json: train in a new workdir")
    found = evaluate(
        learner,
        fixed_episodes(config, banks, split, count),
        inner_steps=inner_steps,
        query_statistics=query_statistics,
        members=[partial(checkpoints.restore_best, rank) for rank in range(members)],
    )
    metric = learner.metric_name
    return {
        "dataset": config.data.name,
        "split": split,
        "way": None if banks is None else config.data.way,
        "shot": config.data.shot,
        "query_shot": config.data.query_shot,
        "inner_steps": found.per_task.shape[1] - 1,
        "method": config.method,
        "label_permutations": config.learner.label_permutations,
        "query_statistics": query_statistics or learner.evaluation_statistics,
        "ensemble": members,
        "tasks": count,
        metric: found.value,
        "confidence_95": found.confidence_95 if math.isfinite(found.confidence_95) else None,
        f"{metric}_per_inner_step": found.per_inner_step,
        "seed": config.seed,
        "train_steps": int(checkpoints.update),
        "train_seconds": round(float(checkpoints.seconds), 1),
    }, found.per_task[:, -1]


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


@_memory_told()
def evaluate_run(
    workdir: Path,
    query_statistics: Sequence[str | None],
    *,
    data_path: str | None = None,
    label_permutations: int | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Evaluates the best epochs of the run in `workdir`, once for each of `query_statistics`.

    Args:
        workdir: of the run; only read.
        query_statistics: each `batch`, `running`, `support` or None for the run's setting.
        data_path: replaces the config's `data.path`.
        label_permutations: replaces the config's `learner.label_permutations`, on which training does not depend.
        **settings: of `describe`.

    Raises:
        UserError: there is no finished run, or a setting that does not go with it.
    """
    config, learner, checkpoints = open_run(workdir, data_path, label_permutations)
    banks = load_banks(config)
    return [
        describe(config, banks, learner, checkpoints, query_statistics=choice, **settings)[0]
        for choice in query_statistics
    ]
