"""Exports a run's best epoch, calibrated, with its accuracy on the run's own test tasks."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp import config as configs
from tf_mamlpp.checks import check_choice
from tf_mamlpp.config import Config
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.saved_model import Signatures, check_output, export_saved_model
from tf_mamlpp.deploy.task_learner import TaskLearner, task_learner
from tf_mamlpp.files import check_new
from tf_mamlpp.meta.confidence import describe_confidence
from tf_mamlpp.meta.evaluation import Evaluation
from tf_mamlpp.runtime import explain_memory_errors
from tf_mamlpp.training.build import fixed_episodes
from tf_mamlpp.training.confidence import confidence_tasks, has_confidence, learner_confidence
from tf_mamlpp.training.run_banks import Banks, load_banks
from tf_mamlpp.training.run_classes import read_classes
from tf_mamlpp.training.workdir import open_run


@explain_memory_errors()
def export_run(
    workdir: Path,
    output: Path,
    *,
    form: str = "saved_model",
    inner_steps: int | None = None,
    query_statistics: str = "support",
    tasks: int | None = None,
    data_path: str | None = None,
    split_file: str | None = None,
) -> dict[str, Any]:
    """Exports the best epoch of a run.

    Args:
        workdir: of the run; only read.
        output: the folder (`saved_model`) or the file (`tflite`) to write.
        form: `saved_model` or `tflite`.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics: see `TaskLearner`.
        tasks: test tasks to measure the accuracy on before writing; None for the run's setting.  0 measures nothing:
            then probabilities are not calibrated, and there is no score of being known.
        data_path: replaces the config's `data.path`.
        split_file: replaces the config's `data.split_file`, see `evaluate_run`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the run, its data or the output cannot be used; then nothing is written.

    Example:
        ```python
        export_run(Path("runs/omniglot"), Path("models/omniglot/1"))["test"]["accuracy"]
        export_run(Path("runs/omniglot"), Path("omniglot.tflite"), form="tflite")
        ```

        >>> export_run(tmp_path, tmp_path / "model")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' holds no run: there is no config.json; train one with bin/train.py
    """
    # Before the accuracy is measured, which takes minutes.
    check_choice("form", form, ("saved_model", "tflite"))
    check_new(output, empty_folder=form == "saved_model")
    if form == "saved_model":
        check_output(output)
    config, learner, checkpoints = open_run(workdir, data_path, split_file=split_file)
    best = checkpoints.restore_best(0)
    settings: dict[str, Any] = {"inner_steps": inner_steps, "query_statistics": query_statistics}
    deployed = task_learner(learner, picture_format(config), **settings)
    count = config.evaluation.test_tasks if tasks is None else tasks
    metadata = {"test": None, "train_steps": int(best["update"]), "config": without_machine(config)}
    if count:
        # Mean 0 and deviation 1/255 undo the scaling, so that the tasks' pictures are pixels again.
        pixels = dataclasses.replace(config, data=dataclasses.replace(config.data, mean=(0.0,), std=(1 / 255,)))
        banks = load_banks(config, read_classes(workdir), workdir)
        metadata["test"] = _measure(pixels, banks, deployed, count)
        if has_confidence(config, deployed.kind):
            confidence, test = learner_confidence(config, banks, learner, **settings)
            metadata["confidence"] = {**describe_confidence(confidence, test), "tasks": confidence_tasks(config)}
            deployed = task_learner(learner, picture_format(config), confidence=confidence, **settings)
    if form == "tflite":
        from tf_mamlpp.deploy.litert.export import export_litert

        return export_litert(deployed, output, metadata)
    return export_saved_model(deployed, output, metadata)


def picture_format(config: Config) -> PictureFormat:
    """How a config's pictures are prepared.

    Example:
        >>> picture_format(Config()).image_size
        (28, 28)
    """
    d = config.data
    return PictureFormat(d.image_size, d.channels, d.mean, d.std, d.resize)


def without_machine(config: Config) -> dict[str, Any]:
    """The config as JSON types, without the settings of the training machine, such as paths.

    Example:
        >>> "path" in without_machine(Config())["data"]
        False
    """
    tree = configs.to_dict(config)
    for section, key in (name.split(".") for name in configs.MACHINE_KEYS):
        tree[section].pop(key)
    return tree


def _measure(config: Config, banks: Banks, learner: TaskLearner, count: int) -> dict[str, Any]:
    """The accuracy of the exported functions, which take pixels, on the first `count` test tasks."""
    adapt_and_predict = Signatures(learner).over_tasks()
    accuracies = []
    for batch in fixed_episodes(config, banks, "test", count):
        inputs = {name: batch[name] for name in ("support_images", "support_labels", "query_images")}
        labels = tf.argmax(adapt_and_predict(**inputs)["logits"], -1).numpy()
        accuracies.append(np.mean(labels == batch["query_labels"], -1))
    evaluation = Evaluation(np.concatenate(accuracies)[:, None])
    return {
        "dataset": config.data.name,
        "split": "test",
        "way": config.data.way,
        "shot": config.data.shot,
        "query_shot": config.data.query_shot,
        "inner_steps": learner.inner_steps,
        "query_statistics": learner.query_statistics,
        "tasks": count,
        "measured_with": "tensorflow",
        "accuracy": evaluation.value,
        "confidence_95": evaluation.confidence_95 if math.isfinite(evaluation.confidence_95) else None,
    }
