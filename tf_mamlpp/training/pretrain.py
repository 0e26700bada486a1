"""The stage before meta-training: a classifier of all training classes, whose features meta-training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mamlpp.config import Config
from tf_mamlpp.data.picture_batches import picture_batches, updates_per_epoch
from tf_mamlpp.errors import writing
from tf_mamlpp.files import write_json
from tf_mamlpp.meta.classifier import Classifier
from tf_mamlpp.meta.evaluation import evaluate
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.records.run_files import read_json
from tf_mamlpp.training.build import drawn_tasks, fixed_episodes, make_classifier
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.fit import Stage, fit
from tf_mamlpp.training.run_banks import Banks
from tf_mamlpp.training.start import PRETRAINING, Start, learned_values
from tf_mamlpp.workers import Workers

_RESULTS = "results.json"


def pretrain(config: Config, banks: Banks, workdir: Path, strategy: tf.distribute.Strategy) -> Start:
    """Runs or resumes the pretraining of a run, and tests the best epoch's features by themselves.

    Args:
        config: of the run.
        banks: of the run.
        workdir: its folder `pretraining` gets `metrics.jsonl`, `updates.csv`, `checkpoints/` and `results.json`; event
            files go to `tensorboard/pretraining`.
        strategy: that the parts of a batch are divided over.

    Returns:
        What meta-training begins with: the epoch with the best validation by nearest class mean.

    Raises:
        UserError: a network without features, or fewer pictures than a batch.

    Example:
        >>> from tf_mamlpp.config import Data, Evaluation, Model, Pretrain
        >>> from tf_mamlpp.training.run_banks import load_banks
        >>> config = Config(
        ...     data=Data(image_size=(8, 8)),
        ...     model=Model(name="mlp"),
        ...     pretrain=Pretrain(epochs=1, batch=2000, parts=2),
        ...     evaluation=Evaluation(validation_tasks=2, test_tasks=2),
        ... )
        >>> pretrain(config, load_banks(config), tmp_path, tf.distribute.get_strategy()).name
        Pretraining epoch 1/1
        ...
        'epoch 1 of the pretraining'
    """
    assert banks is not None  # the config has no pretraining without pictures
    folder, workers = workdir / PRETRAINING, Workers(strategy)
    with strategy.scope():
        classifier = make_classifier(config, len(banks["train"].class_names), banks["train"].inputs)
    checkpoints = Checkpoints(folder / "checkpoints", classifier, 1, workers)
    update = checkpoints.restore_latest()
    checkpoints.forget_best_after(update)
    stage = _stage(config, banks, strategy.num_replicas_in_sync)
    if 0 < update < stage.epochs * stage.updates:
        print(f"resuming the pretraining in '{workdir}' after update {update}", flush=True)
    fit(stage, classifier, checkpoints, folder, workdir / "tensorboard" / PRETRAINING, workers)
    best = checkpoints.restore_best(0)
    if not (folder / _RESULTS).exists():
        with writing(folder):
            write_json(folder / _RESULTS, _results(config, banks, classifier, checkpoints, best["epoch"]))
    return Start(f"epoch {best['epoch'] + 1} of the pretraining", learned_values(classifier), frozenset())


def training_batches(config: Config, banks: Banks, start: int = 0) -> tf.data.Dataset:
    """The batches of a config's pretraining, from batch `start` on; see `data.picture_batches`.

    Example:
        >>> from tf_mamlpp.training.run_banks import load_banks
        >>> config = Config()
        >>> next(iter(training_batches(config, load_banks(config))))["support_labels"].shape
        TensorShape([4, 32])
    """
    assert banks is not None
    p, d = config.pretrain, config.data
    return picture_batches(
        banks["train"],
        batch=p.batch,
        parts=p.parts,
        seed=config.seed,
        start=start,
        rotations=d.rotations,
        augmentation=config.augmentation if p.augment else None,
    )


def _stage(config: Config, banks: Banks, replicas: int) -> Stage:
    assert banks is not None
    p = config.pretrain
    return Stage(
        "Pretraining epoch",
        p.epochs,
        updates_per_epoch(banks["train"], p.batch),
        lambda start: training_batches(config, banks, start),
        fixed_episodes(config, banks, "validation", config.evaluation.validation_tasks, replicas),
        drawn_tasks(config, banks),
        Schedules(p.epochs, p.learning_rate),
        config.training.checkpoint_updates,
    )


def _results(
    config: Config, banks: Banks, classifier: Classifier, checkpoints: Checkpoints, epoch: int
) -> dict[str, Any]:
    found = evaluate(classifier, fixed_episodes(config, banks, "test", config.evaluation.test_tasks))
    return {
        "accuracy": found.value,
        "confidence_95": found.confidence_95,
        "tasks": len(found.per_task),
        "epoch": epoch + 1,
        "train_steps": int(checkpoints.update),
        "train_seconds": round(float(checkpoints.seconds), 1),
    }


def pretraining_results(workdir: Path) -> dict[str, Any] | None:
    """The test of a run's pretrained features by themselves, by nearest class mean; None if it had no pretraining.

    Example:
        >>> pretraining_results(tmp_path) is None
        True
    """
    return read_json(workdir / PRETRAINING / _RESULTS, "accuracy")
