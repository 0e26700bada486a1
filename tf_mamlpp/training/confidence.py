"""How far a run's answers can be believed: fitted to its validation tasks, measured on its test tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.config import Config
from tf_mamlpp.data.episode_sampling import unknown_classes
from tf_mamlpp.errors import writing
from tf_mamlpp.meta.confidence import Confidence, Observed, describe_confidence, fit_confidence, observe
from tf_mamlpp.meta.heads import class_means, nearness
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task import Task
from tf_mamlpp.meta.task_map import task_map
from tf_mamlpp.plotting import save_png
from tf_mamlpp.training.build import fixed_episodes
from tf_mamlpp.training.pictures import reliability_figure
from tf_mamlpp.training.run_banks import Banks


def has_confidence(config: Config, kind: OutputKind) -> bool:
    """Whether a model chooses one of several classes: else there is nothing to calibrate.

    Args:
        config: of the run.
        kind: of the model's outputs.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> has_confidence(Config(), OutputKind()), has_confidence(Config(data=Data(name="sinusoid")), OutputKind())
        (True, False)
    """
    return not (config.is_regression or kind.values or kind.independent) and config.data.way > 1


def unknown_pictures(config: Config, banks: Banks) -> int:
    """How many pictures of other classes each task gets: as many as of its own, if there are such classes.

    Args:
        config, banks: of the run; tells in one line where a split has no class to spare.

    Example:
        ```python
        tasks = fixed_episodes(config, banks, "validation", 100, unknown=unknown_pictures(config, banks))
        ```

        >>> unknown_pictures(Config(), None)
        0
    """
    d = config.data
    if banks is None:
        return 0
    for split in ("validation", "test"):
        if unknown_classes(banks[split], d.way, d.shot, d.query_shot) < 1:
            print(
                f"{banks[split].name}: no class is left beside the {d.way} of a task: no score of being known is made",
                flush=True,
            )
            return 0
    return d.way * d.query_shot


def confidence_tasks(config: Config) -> dict[str, int]:
    """How many tasks of each split are used: all of validation, and no more of the test than of validation.

    Example:
        >>> confidence_tasks(Config())
        {'validation': 600, 'test': 600}
    """
    e = config.evaluation
    return {"validation": e.validation_tasks, "test": min(e.validation_tasks, e.test_tasks)}


def learner_confidence(
    config: Config,
    banks: Banks,
    learner: EpisodicModel,
    *,
    inner_steps: int | None = None,
    query_statistics: str | None = None,
) -> tuple[Confidence, Observed]:
    """Fits temperature and score to the validation tasks.

    Args:
        config, banks: of the run.
        learner: with the weights of the run's best epoch; `label_permutations` are not averaged.
        inner_steps, query_statistics: with which it will be used; None for the learner's own.

    Returns:
        The confidence, and what was observed on test tasks.

    Example:
        >>> from tf_mamlpp.config import Evaluation, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> from tf_mamlpp.training.run_banks import load_banks
        >>> config = Config(model=Model(name="mlp"), evaluation=Evaluation(validation_tasks=4, test_tasks=4))
        >>> _, test = learner_confidence(config, load_banks(config), make_learner(config), query_statistics="support")
        >>> test.logits.shape  # 4 tasks of 5 query pictures
        (20, 5)
    """
    counts, unknown = confidence_tasks(config), unknown_pictures(config, banks)
    steps = learner.inner_steps if inner_steps is None else inner_steps
    statistics = query_statistics or learner.evaluation_statistics
    signature = tf.TensorSpec(None, tf.float32), tf.TensorSpec(None, tf.float32)
    has_distance = _has_distance(learner)  # before anything is traced: it makes a Keras model

    @tf.function(autograph=False, reduce_retracing=True)
    def of_tasks(images: tf.Tensor, labels: tf.Tensor, queries: tf.Tensor) -> Any:
        tasks = {"support_images": images, "support_labels": labels, "query_images": queries}

        def one(task: Task) -> tuple[tf.Tensor, tf.Tensor]:
            logits, distance = _of_task(learner, {**task, "way": config.data.way}, steps, statistics)
            return tf.cast(logits, tf.float32), tf.cast(distance, tf.float32)

        return task_map(one, tasks, signature, learner.settings.parallel_tasks)

    def predict(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        logits, distance = of_tasks(*map(tf.constant, arrays))
        return logits.numpy(), distance.numpy() if has_distance else None

    def observed(split: str) -> Observed:
        return observe(predict, fixed_episodes(config, banks, split, counts[split], unknown=unknown), statistics)

    return fit_confidence(observed("validation")), observed("test")


def _has_distance(learner: EpisodicModel) -> bool:
    return isinstance(learner, MetaLearner) and learner.functional_model.last_layer is not None


def _of_task(learner: EpisodicModel, task: Task, steps: int, statistics: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits `[Q, way]` and the score `distance` `[Q]`, which is empty of a model that has none."""
    model, kind = learner.functional_model, learner.output_kind
    if not _has_distance(learner):
        # Of Prototypical Networks the largest logit is that of the nearest prototype.
        logits = kind.to_logits(learner.task_curve(task, steps, statistics)[0][-1])
        return logits, tf.zeros([0])
    start, state = model.begin(task, model.state)
    fast, state = model.adapt(task, state, steps, fast=model.fast(start))
    weights, row = model.weights(fast, start), max(steps - 1, 0)
    features, state = model.support_features(weights, state, task["support_images"], row, statistics)
    queries, outputs, _ = model.features_and_outputs(
        weights, state, task["query_images"], row, statistics="batch" if statistics == "batch" else "running"
    )
    near = nearness(queries, class_means(features, task["support_labels"], task["way"]))
    return kind.to_logits(outputs), tf.reduce_max(near, -1)


def run_confidence(config: Config, banks: Banks, learner: EpisodicModel, folder: Path) -> dict[str, Any] | None:
    """Fits temperature and score to the validation tasks, measures both on test tasks, and draws the reliability plot.

    Args:
        config, banks: of the run.
        learner: with the weights of the run's best epoch, and with the run's query statistics.
        folder: of the run, which gets `reliability.png`.

    Returns:
        The key `confidence` of `results.json`; None where outputs are no choice of classes.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> from tf_mamlpp.config import Data, Evaluation, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> from tf_mamlpp.training.run_banks import load_banks
        >>> config = Config(model=Model(name="mlp"), evaluation=Evaluation(validation_tasks=4, test_tasks=4))
        >>> found = run_confidence(config, load_banks(config), make_learner(config), tmp_path)
        >>> sorted(found), (tmp_path / "reliability.png").exists()
        (['expected_calibration_error', 'known', 'tasks', 'temperature'], True)
    """
    if not has_confidence(config, learner.output_kind):
        return None
    confidence, test = learner_confidence(config, banks, learner)
    with writing(folder):
        save_png(reliability_figure(test.logits, test.labels, confidence.temperature), folder / "reliability.png")
    return {**describe_confidence(confidence, test), "tasks": confidence_tasks(config)}
