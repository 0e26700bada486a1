"""The accuracy of methods that learn nothing, to be printed beside that of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_mamlpp.data.episode_sampling import check_bank, sample_task
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.intervals import mean_interval

_References = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def nearest_pixel_accuracy(
    bank: ImageBank, *, way: int, shot: int, query_shot: int, tasks: int, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of naming each query picture after the support picture with the nearest pixels.

    Args:
        bank: pictures to draw from.
        way: classes a task.
        shot: support pictures a class.
        query_shot: query pictures a class.
        tasks: how many tasks. Their numbers are 0 to tasks - 1: the tasks that an evaluation of this seed and split
            uses.
        seed: seed of the tasks.
        split: name of the split.

    Returns:
        Mean accuracy over tasks (0..1), and half the width of its 95 % interval over tasks (0.0 for a single task).

    Raises:
        UserError: the bank holds too few classes or pictures.

    Example:
        >>> images = np.repeat(np.array([0, 100, 200], np.uint8), 4)[:, None, None, None]  # a grey for each class
        >>> bank = ImageBank(images, np.array([0, 4, 8, 12]), ("a", "b", "c"), "greys test")
        >>> nearest_pixel_accuracy(bank, way=3, shot=1, query_shot=2, tasks=10, seed=0, split="test")
        (1.0, 0.0)
    """
    return _mean_accuracy(_support, bank, tasks, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)


def nearest_class_mean_accuracy(
    bank: ImageBank, *, way: int, shot: int, query_shot: int, tasks: int, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of naming each query picture after the class whose mean support picture has the nearest pixels.

    These are Prototypical Networks without a network. With one shot it is the same as `nearest_pixel_accuracy`.
    Arguments, result and errors are those of `nearest_pixel_accuracy`.

    Example:
        >>> images = np.repeat(np.array([0, 100, 200], np.uint8), 4)[:, None, None, None]  # a grey for each class
        >>> bank = ImageBank(images, np.array([0, 4, 8, 12]), ("a", "b", "c"), "greys test")
        >>> nearest_class_mean_accuracy(bank, way=3, shot=2, query_shot=2, tasks=10, seed=0, split="test")
        (1.0, 0.0)
    """
    return _mean_accuracy(_class_means, bank, tasks, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)


def _mean_accuracy(references: _References, bank: ImageBank, tasks: int, **task: Any) -> tuple[float, float]:
    check_bank(bank, task["way"], task["shot"], task["query_shot"])
    accuracies = [_accuracy(sample_task(bank, **task, index=index), references) for index in range(tasks)]
    mean, half_width = mean_interval(accuracies)
    return mean, half_width if tasks > 1 else 0.0


def _support(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels, labels


def _class_means(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes = np.unique(labels)
    return np.stack([pixels[labels == c].mean(0) for c in classes]), classes


def _accuracy(task: dict[str, np.ndarray], references: _References) -> float:
    """The share of query pictures that have the label of the nearest reference point.

    Args:
        task: as `sample_task` draws it.
        references: makes points [n, pixels] and their labels [n] of the support set's pixels and labels.
    """
    support = task["support_images"].reshape(len(task["support_labels"]), -1).astype(np.float64)
    query = task["query_images"].reshape(len(task["query_labels"]), -1).astype(np.float64)
    points, labels = references(support, task["support_labels"])
    # |q - p|^2 without |q|^2, which is the same for every p.
    distances = (points**2).sum(axis=1) - 2 * query @ points.T
    return float(np.mean(labels[distances.argmin(axis=1)] == task["query_labels"]))
