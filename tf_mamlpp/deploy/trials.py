"""How accurate a deployed model is on classes of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tf_mamlpp.data.episode_sampling import check_bank, sample_task
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.pixel_baselines import nearest_pixel_accuracy
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.folders import files_by_class, read_pictures
from tf_mamlpp.errors import UserError
from tf_mamlpp.intervals import mean_interval


def run_trials(
    model: DeployedModel, folder: Path, *, way: int, shot: int, query_shot: int, count: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Adapts a model to random choices of classes and pictures, and measures its accuracy on other pictures of these.

    Args:
        model: the deployed model.
        folder: class folders, of which each trial takes `way`.
        way, shot, query_shot: classes a trial, and support and query pictures a class.
        count: how many trials, at least 2.
        seed: of the choices.

    Returns:
        `accuracy`, and as `nearest_pixel` that of giving each query picture the class of the support picture with the
        nearest pixels.  Each is the mean over trials and half the width of its 95 % interval.

    Raises:
        UserError: more classes than the model has, or too few classes or pictures in the folder.

    Example:
        ```python
        model = DeployedModel("models/omniglot/1")
        run_trials(model, Path("my/pool"), way=5, shot=1, query_shot=5, count=200)["accuracy"]
        ```

        >>> from types import SimpleNamespace
        >>> run_trials(SimpleNamespace(way=5), tmp_path, way=6, shot=1, query_shot=1, count=2)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: trials of 6 classes for a 5-way model: give --way=5 or fewer
    """
    if model.way is not None and way > model.way:
        raise UserError(f"trials of {way} classes for a {model.way}-way model: give --way={model.way} or fewer")
    bank = _read_bank(model, folder)
    check_bank(bank, way, shot, query_shot)
    names = [str(c) for c in range(way)]
    accuracies = []
    for index in range(count):
        sampled = sample_task(bank, way=way, shot=shot, query_shot=query_shot, seed=seed, split="test", index=index)
        task = model.adapt(sampled["support_images"], sampled["support_labels"], names)
        labels = model.predict(task, sampled["query_images"]).argmax(-1)
        accuracies.append(np.mean(labels == sampled["query_labels"]))
    return {
        "accuracy": mean_interval(accuracies),
        "nearest_pixel": nearest_pixel_accuracy(
            bank, way=way, shot=shot, query_shot=query_shot, tasks=count, seed=seed, split="test"
        ),
    }


def _read_bank(model: DeployedModel, folder: Path) -> ImageBank:
    names: list[str] = []
    images: list[np.ndarray] = []
    offsets = [0]
    for name, files in files_by_class(folder).items():
        images += [sized for _, _, sized in read_pictures(files, model)]
        names.append(name)
        offsets.append(len(images))
    if not images:
        raise UserError(f"no picture in '{folder}' can be read")
    return ImageBank(np.stack(images), np.array(offsets), tuple(names), f"{folder} pool")
