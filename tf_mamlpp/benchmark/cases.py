"""The work that the benchmark times: cases by name, and random tasks of their shape.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class Case:
    """The work of a meta-update.

    Attributes:
        way, shot, query_shot: classes of a task, and support and query pictures a class.
        tasks: in a meta-batch.
        image_shape: height, width, channels.
        backbone, filters: the network, see `models.by_name`.
        method: a preset of `meta.settings`.
        inner_steps, inner_rate: of the inner loop.
        first_order, multi_step_loss, rematerialise: settings of the learner; they come before the method's.

    Example:
        >>> Case(way=20).image_shape
        (28, 28, 1)
    """

    way: int = 5
    shot: int = 1
    query_shot: int = 1
    tasks: int = 8
    image_shape: tuple[int, int, int] = (28, 28, 1)
    backbone: str = "conv4"
    filters: int = 64
    method: str = "maml++"
    inner_steps: int = 5
    inner_rate: float = 0.1
    first_order: bool = False
    multi_step_loss: bool = True
    rematerialise: bool = False


_MINI_IMAGENET = Case(query_shot=15, tasks=2, image_shape=(84, 84, 3), filters=48, inner_rate=0.01)


CASES: Mapping[str, Case] = {
    "omniglot_5way_1shot": Case(),
    "omniglot_20way_1shot": Case(way=20),
    "omniglot_5way_first_order": Case(first_order=True),
    "mini_imagenet_1shot": _MINI_IMAGENET,
    "mini_imagenet_5shot": replace(_MINI_IMAGENET, shot=5),
    # Few tasks, pictures and steps: enough for a deep network, in seconds an update on two cores and 2.3 GB.
    "resnet12": replace(_MINI_IMAGENET, backbone="resnet12", query_shot=1, tasks=1, inner_steps=2),
}


GROWTH_BASE = Case(tasks=2)


GROWTH: Mapping[str, Sequence[int]] = {
    "tasks": (2, 4, 8, 16),
    "way": (5, 10, 20),
    "shot": (1, 2, 4, 8),
    "inner_steps": (2, 4, 8),
    "filters": (32, 64, 128),
}
"""Fields of a case with the values to time; the other fields stay as in `GROWTH_BASE`."""


def choose_cases(names: Sequence[str], last_step_loss: bool = False, rematerialise: bool = False) -> dict[str, Case]:
    """Chooses cases by name.

    Args:
        names: of `CASES`, or `all`.
        last_step_loss: only the query loss after the last inner step counts.
        rematerialise: inner steps run again in the backward pass, so that their results need not be kept.

    Returns:
        The cases by name; names of changed ones say what is changed.

    Raises:
        UserError: no such case, or no names.

    Example:
        >>> [(name, case)] = choose_cases(["resnet12"], last_step_loss=True).items()
        >>> name, case.multi_step_loss
        ('resnet12_last_step_loss', False)
    """
    names = list(CASES) if list(names) == ["all"] else names
    if not names:
        raise UserError(f"no case is named; cases are {', '.join(CASES)}, or all")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UserError(f"unknown case '{unknown[0]}'; cases are {', '.join(CASES)}, or all")
    changes: dict[str, Any] = {}
    suffix = ""
    if last_step_loss:
        changes["multi_step_loss"], suffix = False, "_last_step_loss"
    if rematerialise:
        changes["rematerialise"], suffix = True, suffix + "_rematerialised"
    return {name + suffix: replace(CASES[name], **changes) for name in names}


def growth_points() -> Iterator[tuple[str, int, Case]]:
    """The field, the value and the case of each point of `GROWTH`.

    Example:
        >>> [(field, value) for field, value, case in growth_points()][:3]
        [('tasks', 2), ('tasks', 4), ('tasks', 8)]
    """
    for field, values in GROWTH.items():
        for value in values:
            change: dict[str, Any] = {field: value}
            yield field, value, replace(GROWTH_BASE, **change)


def random_tasks(case: Case, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """A meta-batch of normal noise.

    Args:
        case: whose shape it has.
        dtype: of the pictures.
        seed: of the noise.

    Returns:
        `support_images` and `query_images` `[tasks, pictures, height, width, channels]`, and `support_labels` and
        `query_labels` `[tasks, pictures]` int32.

    Example:
        >>> tasks = random_tasks(Case(way=5, shot=1, tasks=8))
        >>> tasks["support_images"].shape, tasks["support_labels"][0].tolist()
        ((8, 5, 28, 28, 1), [0, 1, 2, 3, 4])
    """
    generator = np.random.default_rng(seed)
    batch = {}
    for part, shot in (("support", case.shot), ("query", case.query_shot)):
        shape = (case.tasks, case.way * shot, *case.image_shape)
        batch[f"{part}_images"] = generator.normal(size=shape).astype(dtype)
        labels = np.repeat(np.arange(case.way, dtype=np.int32), shot)
        batch[f"{part}_labels"] = np.tile(labels, (case.tasks, 1))
    return batch
