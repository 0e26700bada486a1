"""From a run's folder to what is deployed: export, measured on the run's own test tasks."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.deploy.saved_model import Signatures, export_saved_model
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.meta.evaluation import Evaluation
from tf_mamlpp.training.build import fixed_episodes, load_banks
from tf_mamlpp.training.workdir import open_run


def export_run(
    workdir: Path,
    output: Path,
    *,
    form: str = "saved_model",
    inner_steps: int | None = None,
    query_statistics: str = "support",
    tasks: int | None = None,
    data_path: str | None = None,
) -> dict[str, Any]:
    """Exports the best epoch of a run.

    Args:
        workdir: of the run; only read.
        output: the folder (`saved_model`) or the file (`tflite`) to write.
        form: `saved_model` or `tflite`.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics: see `TaskLearner`.
        tasks: test tasks to measure the accuracy on before writing, 0 for none; None for the run's setting.
        data_path: replaces the config's `data.path`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the run, its data or the output will not do; nothing is written then.
    """
    config, learner, checkpoints = open_run(workdir, data_path)
    checkpoints.restore_best(0)
    d = config.data
    settings: dict[str, Any] = {
        "mean": d.mean,
        "std": d.std,
        "inner_steps": inner_steps,
        "query_statistics": query_statistics,
    }
    deployed = task_learner(learner, **settings)
    pictures: dict[str, Any] = {"image_size": d.image_size, "channels": d.channels, "resize_policy": d.resize}
    count = config.evaluation.test_tasks if tasks is None else tasks
    metadata = {
        "test": _measure(config, Signatures(deployed, **pictures), count) if count else None,
        "train_steps": int(checkpoints.best[0]["update"]),
        "config": _portable(config),
    }
    if form == "tflite":
        from tf_mamlpp.deploy.litert.export import export_litert

        return export_litert(learner, output, **pictures, **settings, metadata=metadata)
    return export_saved_model(learner, output, **pictures, **settings, metadata=metadata)


def _portable(config: Config) -> dict[str, Any]:
    """The config without what was the training machine's own."""
    tree = configs.to_dict(config)
    for section, key in (name.split(".") for name in configs.MACHINE_KEYS):
        tree[section].pop(key)
    return tree


def _measure(config: Config, signatures: Signatures, count: int) -> dict[str, Any]:
    """The accuracy of what is exported, from plain pixels, on the first `count` test tasks."""
    # Mean 0 and deviation 1/255 undo the scaling, so that the tasks' pictures are pixels again.
    pixels = dataclasses.replace(config.data, mean=(0.0,), std=(1 / 255,))
    episodes = fixed_episodes(dataclasses.replace(config, data=pixels), load_banks(config), "test", count)
    answer = signatures.all_tasks()
    right = [
        np.mean(tf.argmax(answer(**_inputs(batch))["logits"], -1).numpy() == batch["query_labels"], -1)
        for batch in episodes
    ]
    found = Evaluation(np.concatenate(right)[:, None])
    learner = signatures.learner
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
        "accuracy": found.value,
        "confidence_95": found.confidence_95 if math.isfinite(found.confidence_95) else None,
    }


def _inputs(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: batch[name] for name in ("support_images", "support_labels", "query_images")}
