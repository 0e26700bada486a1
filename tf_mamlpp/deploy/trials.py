"""How well will a deployed model do on these classes?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tf_mamlpp.data.episode_sampling import check_bank, sample_task
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.pixel_baselines import nearest_pixel_accuracy
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.folders import class_tree, read_pictures
from tf_mamlpp.errors import UserError


def trials(
    model: DeployedModel, folder: Path, *, way: int, shot: int, query_shot: int, count: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Random choices of classes and of support pictures from a pool of class folders, each learned and tested.

    Args:
        model: the deployed model.
        folder: class folders, of which each trial takes `way`.
        way, shot, query_shot: classes a trial, and support and query pictures a class.
        count: how many trials.
        seed: of the choices.

    Returns:
        `accuracy` and, of naming each picture after the support picture with the nearest pixels, `nearest_pixel`: the
        mean over trials and half the width of its 95 % interval.
    """
    if way > model.way:
        raise UserError(f"trials of {way} classes for a {model.way}-way model: give --way={model.way} or fewer")
    bank = _bank(model, folder)
    check_bank(bank, way, shot, query_shot)
    names = [str(c) for c in range(way)]
    accuracies = []
    for index in range(count):
        task = sample_task(bank, way=way, shot=shot, query_shot=query_shot, seed=seed, split="test", index=index)
        learned = model.learn(task["support_images"], task["support_labels"], names)
        accuracies.append(np.mean(model.answer(learned, task["query_images"]).argmax(-1) == task["query_labels"]))
    spread = np.std(accuracies, ddof=1) if count > 1 else 0.0
    return {
        "accuracy": (float(np.mean(accuracies)), float(1.96 * spread / np.sqrt(count))),
        "nearest_pixel": nearest_pixel_accuracy(
            bank, way=way, shot=shot, query_shot=query_shot, tasks=count, seed=seed, split="test"
        ),
    }


def _bank(model: DeployedModel, folder: Path) -> ImageBank:
    names: list[str] = []
    images: list[np.ndarray] = []
    offsets = [0]
    for name, files in class_tree(folder).items():
        images += [sized for _, _, sized in read_pictures(files, model)]
        names.append(name)
        offsets.append(len(images))
    if not images:
        raise UserError(f"no picture in '{folder}' can be read")
    return ImageBank(np.stack(images), np.array(offsets), tuple(names), f"{folder} pool")
