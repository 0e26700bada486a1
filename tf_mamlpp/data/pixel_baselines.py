"""What methods that learn nothing reach, to be printed beside a trained model's accuracy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tf_mamlpp.data.episode_sampling import check_bank, sample_task
from tf_mamlpp.data.image_bank import ImageBank


def nearest_pixel_accuracy(
    bank: ImageBank, *, way: int, shot: int, query_shot: int, tasks: int, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of naming each query picture after the support picture with the nearest pixels.

    Args:
        bank: pictures to draw from.
        way: classes a task.
        shot: support pictures a class.
        query_shot: query pictures a class.
        tasks: how many tasks: numbers 0 to tasks - 1, the ones that an evaluation of this seed and split
            uses.
        seed: seed of the tasks.
        split: name of the split.

    Returns:
        Mean accuracy over tasks (0..1), and half the width of its 95 % interval over tasks.

    Raises:
        UserError: the bank holds too few classes or pictures.
    """
    return _mean_accuracy(_support, bank, tasks, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)


def nearest_class_mean_accuracy(
    bank: ImageBank, *, way: int, shot: int, query_shot: int, tasks: int, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of naming each query picture after the class whose mean support picture has the nearest pixels.

    Prototypical Networks without a network; with one shot the same as `nearest_pixel_accuracy`, whose arguments,
    result and errors it has.
    """
    return _mean_accuracy(_class_means, bank, tasks, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)


def _mean_accuracy(references: Any, bank: ImageBank, tasks: int, **task: Any) -> tuple[float, float]:
    check_bank(bank, task["way"], task["shot"], task["query_shot"])
    sample = partial(sample_task, bank, **task)
    accuracies = np.array([_accuracy(sample(index=index), references) for index in range(tasks)])
    spread = accuracies.std(ddof=1) if tasks > 1 else 0.0
    return float(accuracies.mean()), float(1.96 * spread / np.sqrt(tasks))


def _support(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels, labels


def _class_means(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes = np.unique(labels)
    return np.stack([pixels[labels == c].mean(0) for c in classes]), classes


def _accuracy(task: dict[str, np.ndarray], references: Any) -> float:
    support = task["support_images"].reshape(len(task["support_labels"]), -1).astype(np.float64)
    query = task["query_images"].reshape(len(task["query_labels"]), -1).astype(np.float64)
    points, labels = references(support, task["support_labels"])
    # |q - p|^2 without |q|^2, which is the same for every p.
    distances = (points**2).sum(axis=1) - 2 * query @ points.T
    return float(np.mean(labels[distances.argmin(axis=1)] == task["query_labels"]))
