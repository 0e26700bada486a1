"""What a method that learns nothing reaches, to be printed beside a trained model's accuracy."""

from __future__ import annotations

from functools import partial

import numpy as np

from tf_mamlpp.data.episodes import check_bank, sample_task
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
    check_bank(bank, way, shot, query_shot)
    sample = partial(sample_task, bank, way=way, shot=shot, query_shot=query_shot, seed=seed, split=split)
    accuracies = np.array([_accuracy(sample(index=index)) for index in range(tasks)])
    spread = accuracies.std(ddof=1) if tasks > 1 else 0.0
    return float(accuracies.mean()), float(1.96 * spread / np.sqrt(tasks))


def _accuracy(task: dict[str, np.ndarray]) -> float:
    support = task["support_images"].reshape(len(task["support_labels"]), -1).astype(np.float64)
    query = task["query_images"].reshape(len(task["query_labels"]), -1).astype(np.float64)
    # |q - s|^2 without |q|^2, which is the same for every s.
    distances = (support**2).sum(axis=1) - 2 * query @ support.T
    return float(np.mean(task["support_labels"][distances.argmin(axis=1)] == task["query_labels"]))
