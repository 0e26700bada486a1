"""Exports a run's best epoch, calibrated, with its accuracy on the run's own test tasks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp import config as configs
from tf_mamlpp.checks import check_choice
from tf_mamlpp.config import Config
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.learner_export import RUN_NAMES, InputSignatures, export_inputs
from tf_mamlpp.deploy.saved_model import Signatures, check_output, export_saved_model
from tf_mamlpp.deploy.state_learner import StateLearner, state_learner
from tf_mamlpp.deploy.task_learner import TaskLearner, task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import check_new
from tf_mamlpp.meta.confidence import describe_confidence
from tf_mamlpp.meta.evaluation import Evaluation
from tf_mamlpp.runtime import explain_memory_errors
from tf_mamlpp.training.build import fixed_episodes
from tf_mamlpp.training.confidence import confidence_tasks, has_confidence, learner_confidence
from tf_mamlpp.training.run_banks import Banks, load_banks
from tf_mamlpp.training.run_classes import read_classes
from tf_mamlpp.training.run_inputs import kept_inputs
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
        tf_mamlpp.errors.UserError: '...' holds no run: there is no config.json; train one with tf-mamlpp train
    """
    # Before the accuracy is measured, which takes minutes.
    check_choice("form", form, ("saved_model", "tflite"))
    check_new(output, empty_folder=form == "saved_model")
    if form == "saved_model":
        check_output(output)
    config, learner, checkpoints = open_run(workdir, data_path, split_file=split_file)
    kind, inputs = config.data.kind, kept_inputs(config, workdir)
    if form == "tflite" and not kind.is_pictures:
        raise UserError(f"LiteRT takes runs on pictures, and this one was trained on {kind.name}: export a SavedModel")
    best = checkpoints.restore_best(0)
    settings: dict[str, Any] = {"inner_steps": inner_steps, "query_statistics": query_statistics}
    deployed = _deployed(learner, inputs, **settings)
    count = config.evaluation.test_tasks if tasks is None else tasks
    metadata = {"test": None, "train_steps": int(best["update"]), "config": without_machine(config)}
    if count:
        banks = load_banks(config, read_classes(workdir), workdir, inputs)
        metadata["test"] = _measure(config, banks, deployed, count)
        if has_confidence(config, deployed.kind):
            confidence, test = learner_confidence(config, banks, learner, **settings)
            metadata["confidence"] = {**describe_confidence(confidence, test), "tasks": confidence_tasks(config)}
            deployed = _deployed(learner, inputs, confidence=confidence, **settings)
    if form == "tflite":
        from tf_mamlpp.deploy.litert.export import export_litert

        assert isinstance(deployed, TaskLearner)
        return export_litert(deployed, output, metadata)
    if isinstance(deployed, TaskLearner):
        return export_saved_model(deployed, output, metadata)
    return export_inputs(_signatures(deployed), output, metadata)


def _deployed(learner: Any, inputs: InputFormat, **settings: Any) -> StateLearner:
    """What is exported: of pictures a `TaskLearner`, which is of any size of theirs."""
    if isinstance(inputs, PictureFormat):
        return task_learner(learner, inputs, **settings)
    if learner.way is None:
        raise UserError("only classifiers are exported, and this run is a regression: use learner.export in Python")
    return state_learner(learner, inputs=inputs, **settings)


def _signatures(learner: StateLearner) -> InputSignatures:
    assert learner.inputs is not None
    return InputSignatures(learner, learner.inputs.signature(), RUN_NAMES)


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


def _measure(config: Config, banks: Banks, learner: StateLearner, count: int) -> dict[str, Any]:
    """The accuracy of the exported functions, which take examples as they are, on the first `count` test tasks."""
    logits = _logits_of_pictures(learner) if isinstance(learner, TaskLearner) else _logits_of_inputs(learner)
    accuracies = []
    for batch in fixed_episodes(config, banks, "test", count, prepared=False):
        labels = tf.argmax(logits(batch), -1).numpy()
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


def _logits_of_pictures(learner: TaskLearner) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    adapt_and_predict = Signatures(learner).over_tasks()

    def logits(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        support, query = (tf.cast(batch[f"{part}_images"], tf.float32) for part in ("support", "query"))
        given = {"support_images": support, "support_labels": batch["support_labels"], "query_images": query}
        return adapt_and_predict(**given)["logits"]

    return logits


def _logits_of_inputs(learner: StateLearner) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    module = _signatures(learner)

    def logits(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        tasks = zip(batch["support_images"], batch["support_labels"], batch["query_images"], strict=True)
        states = ((module.adapt(inputs, labels)["state"], queries) for inputs, labels, queries in tasks)
        return tf.stack([module.predict(state, queries)["logits"] for state, queries in states])

    return logits
