"""How accurate a deployed model is on classes of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tf_mamlpp.data.episode_sampling import check_bank, sample_task, unknown_classes
from tf_mamlpp.data.pixel_baselines import nearest_pixel_accuracy
from tf_mamlpp.deploy.deployed_model import DeployedModel, check_tells_unknown
from tf_mamlpp.deploy.readers import reader_of
from tf_mamlpp.errors import UserError
from tf_mamlpp.intervals import mean_interval
from tf_mamlpp.meta.known_score import auroc


def run_trials(
    model: DeployedModel,
    folder: Path,
    *,
    way: int,
    shot: int,
    query_shot: int,
    count: int,
    seed: int = 0,
    unknown: int = 0,
) -> dict[str, tuple[float, float]]:
    """Adapts a model to random choices of classes and pictures, and measures its accuracy on other pictures of these.

    Args:
        model: the deployed model.
        folder: class folders, or labelled arrays, of which each trial takes `way`.
        way, shot, query_shot: classes a trial, and support and query pictures a class.
        count: how many trials, at least 2.
        seed: of the choices.
        unknown: pictures of other classes that each trial gets too, to see whether the model knows that it does not
            know them.

    Returns:
        `accuracy`, and as `nearest_pixel` (of other examples than pictures `nearest_example`) that of giving each query
        the class of the nearest support picture. With `unknown` also `known_kept`, the share of the query pictures of
        the classes that reach the model's threshold, `unknown_found`, the share of the others that do not, and `auroc`,
        how well the score tells them apart.  Each is the mean over trials and half the width of its 95 % interval.

    Raises:
        UserError: more classes than the model has, or too few classes or pictures in the folder; with `unknown`, a
            model without a threshold.

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
    if unknown:
        check_tells_unknown(model)
    bank = reader_of(model).read_pool(model, folder)
    check_bank(bank, way, shot, query_shot)
    if unknown and unknown_classes(bank, way, shot, query_shot) < 1:
        raise UserError(f"{bank.name}: no class is left beside the {way} of a trial: give --way={way - 1}, or add one")
    names = [str(c) for c in range(way)]
    shape: dict[str, Any] = {"way": way, "shot": shot, "query_shot": query_shot, "seed": seed, "unknown": unknown}
    accuracies, found = [], dict[str, list[float]]()
    for index in range(count):
        sampled = sample_task(bank, **shape, split="test", index=index)
        task = model.adapt(sampled["support_images"], sampled["support_labels"], names)
        queries = sampled["query_images"]
        accuracies.append(np.mean(model.predict(task, queries).argmax(-1) == sampled["query_labels"]))
        if unknown:
            together = np.concatenate([queries, sampled["unknown_images"]])
            known, others = np.split(model.predict_known(task, together)[1], [len(queries)])
            for name, value in _told_apart(known, others, float(model.threshold or 0)).items():
                found.setdefault(name, []).append(value)
    return {
        "accuracy": mean_interval(accuracies),
        **{name: mean_interval(values) for name, values in found.items()},
        bank.inputs.kind.baselines[0]: nearest_pixel_accuracy(
            bank, way=way, shot=shot, query_shot=query_shot, tasks=count, seed=seed, split="test"
        ),
    }


def _told_apart(known: np.ndarray, others: np.ndarray, threshold: float) -> dict[str, float]:
    kept, passed = float(np.mean(known >= threshold)), float(np.mean(others >= threshold))
    return {"known_kept": kept, "unknown_found": 1 - passed, "auroc": auroc(known, others)}
