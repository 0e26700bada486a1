"""The accuracy of methods that learn nothing, to be printed beside that of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.bank import Bank
from tf_mamlpp.data.episode_sampling import check_bank, sample_task
from tf_mamlpp.data.task_stream import Task
from tf_mamlpp.intervals import mean_interval

_References = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def nearest_pixel_accuracy(
    bank: Bank, *, way: int, shot: int, query_shot: int, tasks: int, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of naming each query picture after the support picture with the nearest pixels.

    Of other examples than pictures it is the nearest input of the model; of whole numbers, which are names, the one
    that differs in the fewest places.

    Args:
        bank: examples to draw from.
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
        >>> from tf_mamlpp.data import ImageBank
        >>> images = np.repeat(np.array([0, 100, 200], np.uint8), 4)[:, None, None, None]  # a grey for each class
        >>> bank = ImageBank(images, np.array([0, 4, 8, 12]), ("a", "b", "c"), "greys test")
        >>> nearest_pixel_accuracy(bank, way=3, shot=1, query_shot=2, tasks=10, seed=0, split="test")
        (1.0, 0.0)
    """
    return _mean_accuracy(_support, bank, tasks, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)


def nearest_class_mean_accuracy(
    bank: Bank, *, way: int, shot: int, query_shot: int, tasks: int, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of naming each query picture after the class whose mean support picture has the nearest pixels.

    These are Prototypical Networks without a network. With one shot it is the same as `nearest_pixel_accuracy`.
    Arguments, result and errors are those of `nearest_pixel_accuracy`.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> images = np.repeat(np.array([0, 100, 200], np.uint8), 4)[:, None, None, None]  # a grey for each class
        >>> bank = ImageBank(images, np.array([0, 4, 8, 12]), ("a", "b", "c"), "greys test")
        >>> nearest_class_mean_accuracy(bank, way=3, shot=2, query_shot=2, tasks=10, seed=0, split="test")
        (1.0, 0.0)
    """
    return _mean_accuracy(_class_means, bank, tasks, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)


def _mean_accuracy(references: _References, bank: Bank, tasks: int, **task: Any) -> tuple[float, float]:
    check_bank(bank, task["way"], task["shot"], task["query_shot"])
    points = _points(bank)
    accuracies = [_accuracy(points(sample_task(bank, **task, index=i)), references) for i in range(tasks)]
    mean, half_width = mean_interval(accuracies)
    return mean, half_width if tasks > 1 else 0.0


def _points(bank: Bank) -> Callable[[Task], Task]:
    """Makes of a task's examples points [n, numbers]: pixels as they are, else as the model takes them."""
    prepare = tf.function(bank.inputs.prepare, autograph=False, reduce_retracing=True)

    def points(examples: np.ndarray) -> np.ndarray:
        if not bank.inputs.kind.is_pictures:
            examples = prepare(tf.constant(examples)).numpy()
        return examples.reshape(len(examples), -1)

    return lambda task: {name: points(value) if name.endswith("images") else value for name, value in task.items()}


def _support(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels, labels


def _class_means(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes = np.unique(labels)
    return np.stack([pixels[labels == c].mean(0) for c in classes]), classes


def _accuracy(task: Task, references: _References) -> float:
    """The share of query pictures that have the label of the nearest reference point.

    Args:
        task: as `_points` makes it.
        references: makes points [n, pixels] and their labels [n] of the support set's pixels and labels.
    """
    support, query = task["support_images"], task["query_images"]
    if support.dtype == np.int32:
        points, labels = references(support, task["support_labels"])
        distances = np.stack([(query != point).sum(axis=1) for point in points], axis=1)
    else:
        query = query.astype(np.float64)
        points, labels = references(support.astype(np.float64), task["support_labels"])
        # |q - p|^2 without |q|^2, which is the same for every p.
        distances = (points**2).sum(axis=1) - 2 * query @ points.T
    return float(np.mean(labels[distances.argmin(axis=1)] == task["query_labels"]))
