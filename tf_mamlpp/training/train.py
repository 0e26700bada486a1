"""A run from config to results: `train_and_evaluate`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.data.input_format import InputFormat, read_format
from tf_mamlpp.data.sources.splits import SplitFile
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.files import write_json
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.runtime import explain_memory_errors
from tf_mamlpp.training.build import drawn_tasks, fixed_episodes, make_episodes, make_learner, make_strategy
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.fit import Stage, fit
from tf_mamlpp.training.pretrain import pretrain, pretraining_results
from tf_mamlpp.training.results import run_results
from tf_mamlpp.training.run_banks import Banks, load_banks
from tf_mamlpp.training.run_classes import read_classes, write_classes
from tf_mamlpp.training.run_inputs import config_inputs, run_inputs, write_inputs
from tf_mamlpp.training.start import Start, read_start
from tf_mamlpp.training.workdir import claim_workdir, holds_run
from tf_mamlpp.workers import Workers


@explain_memory_errors()
def train_and_evaluate(config: Config, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Pretrains if that is asked for, meta-trains or resumes, validates every epoch, tests at the end.

    With `training.strategy=multi_worker` all workers call it and get the same results; the chief alone reads and
    writes the folder and tests.

    Args:
        config: what to run.
        workdir: gets `config.json`, `classes.json`, `metrics.jsonl`, `updates.csv`, `checkpoints/`, `tensorboard/`,
            `test_tasks.csv`, `reliability.png` and `results.json`, and of its pretraining the folder `pretraining`.

    Returns:
        The results: the test of the ensemble, with the single best epoch's beside it.

    Raises:
        UserError: a mistake that the message tells how to mend.

    Example:
        >>> from tf_mamlpp.config import Data, Evaluation, Learner, Model, Training
        >>> config = Config(
        ...     data=Data(name="sinusoid", shot=5, query_shot=5),
        ...     model=Model(name="mlp"),
        ...     learner=Learner(inner_steps=1, inner_rate=0.01),
        ...     training=Training(epochs=1, updates=2, tasks=2),
        ...     evaluation=Evaluation(validation_tasks=2, test_tasks=2, ensemble=1),
        ... )
        >>> results = train_and_evaluate(config, tmp_path)
        Epoch 1/1...
        >>> results["train_steps"], sorted(file.name for file in tmp_path.glob("*.*"))[-2:]
        (2, ['test_tasks.csv', 'updates.csv'])
    """
    workdir = Path(workdir)
    strategy = make_strategy(config)
    workers = Workers(strategy)
    folder = claim_workdir(config, workdir) if workers.chief else contextlib.nullcontext()
    with workers.explain_losses(), folder:
        check_same(config, workers)
        known, inputs, banks = _share_classes(workdir, workers), _share_inputs(config, workdir, workers), None
        if inputs is None:  # the data tell it
            banks = load_banks(config, known, workdir)
            inputs = banks["train"].inputs if banks else None
        start = _read_start(config, inputs, workdir, workers)  # before the learner, whose seed it would use up
        with strategy.scope():
            learner = make_learner(config, inputs)
        # Else after the learner: a wrong model is told before pictures are decoded.
        banks = banks or load_banks(config, known, workdir, inputs)
        checkpoints = Checkpoints(workdir / "checkpoints", learner, config.evaluation.ensemble, workers)
        update = checkpoints.restore_latest()
        checkpoints.forget_best_after(update)
        if workers.chief and known is None and banks is not None:
            with writing(workdir):
                write_classes(workdir, banks)
                write_inputs(workdir, banks["train"].inputs)
        if config.pretrain.epochs and not update:
            start = pretrain(config, banks, workdir, strategy)
        elif start:
            start.check_classes(banks, config.data.name)
        if start:
            start.give_to(learner)
            start.keep(workdir)
        if update:
            print(f"resuming '{workdir}' after update {update}", flush=True)
        stage = _stage(config, banks, strategy.num_replicas_in_sync)
        fit(stage, learner, checkpoints, workdir, workdir / "tensorboard", workers)
        results = None
        if workers.chief:
            results = run_results(config, banks, learner, checkpoints, workdir / "test_tasks.csv")
            if config.pretrain.epochs:
                results["pretraining"] = pretraining_results(workdir)
            with writing(workdir):
                write_json(workdir / "results.json", results)
        return workers.share(results)


def _read_start(config: Config, inputs: InputFormat | None, workdir: Path, workers: Workers) -> Start | None:
    """What a run that has no checkpoint yet begins from; None for random weights."""
    if not config.training.start or workers.share(workers.chief and holds_run(workdir)):
        return None
    if not workers.alone:
        raise UserError(
            "training.start is read by one process alone: begin with training.strategy=none, and resume with "
            "multi_worker from the first checkpoint on"
        )
    return read_start(config, inputs)


def _share_classes(workdir: Path, workers: Workers) -> SplitFile | None:
    """The classes of the run that the workers resume, which the chief alone can read; None if there is none."""
    found = read_classes(workdir) if workers.chief and holds_run(workdir) else None
    shared = workers.share(None if found is None else dataclasses.asdict(found))
    return None if shared is None else SplitFile(**shared)


def _share_inputs(config: Config, workdir: Path, workers: Workers) -> InputFormat | None:
    """What an example is to the run, which of one that has begun the chief alone can read; None where data tell it."""
    inputs = config_inputs(config)
    if inputs is not None:
        return inputs
    found = run_inputs(config, workdir) if workers.chief and holds_run(workdir) else None
    shared = workers.share(None if found is None else {found.kind.name: found.describe()})
    return None if shared is None else read_format(shared)


def check_same(config: Config, workers: Workers) -> None:
    """Refuses a worker that was started with another config than the chief.

    Args:
        config: of this worker.
        workers: that train together.

    Raises:
        UserError: naming what differs.

    Example:
        >>> import tensorflow as tf
        >>> check_same(Config(), Workers(tf.distribute.get_strategy()))  # one process alone
    """
    changed = configs.differences(configs.from_dict(workers.share(configs.to_dict(config))), config)
    if not workers.any(bool(changed)):
        return
    if changed:
        raise UserError(f"this worker's config is not the chief's ({'; '.join(changed[:3])}): start all with the same")
    # Else this worker would wait for the others, and say that they have ended.
    raise UserError("another worker's config is not the chief's, and its own error names what differs")


def _stage(config: Config, banks: Banks, replicas: int) -> Stage:
    t = config.training
    return Stage(
        "Epoch",
        t.epochs,
        t.updates,
        lambda start: make_episodes(config, banks, "train", t.tasks, start=start),
        fixed_episodes(config, banks, "validation", config.evaluation.validation_tasks, replicas),
        drawn_tasks(config, banks),
        Schedules(t.epochs, t.learning_rate, t.annealing_epochs),
        t.checkpoint_updates,
    )
