"""What the benchmark times: shapes of meta-learning work, and random tasks of these shapes.  Imports no framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class Case:
    """One shape of work: tasks an update, pictures, network, method."""

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
    # As few tasks, pictures and steps as show what a deep network costs: seconds an update on two cores, 3 GB in all.
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
"""Fields of a case, and the values that each takes while the others stay as in `GROWTH_BASE`."""


def choose(names: Sequence[str], last_step_loss: bool = False, rematerialise: bool = False) -> dict[str, Case]:
    """Cases by name, `all` for every one; changed as asked, and then under names of their own.

    Args:
        names: of `CASES`.
        last_step_loss: only the query loss after the last inner step.
        rematerialise: inner steps run again in the backward pass instead of being kept.

    Raises:
        UserError: no such case.
    """
    names = list(CASES) if list(names) == ["all"] else names
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
    """Every field, value and case of `GROWTH`."""
    for field, values in GROWTH.items():
        for value in values:
            change: dict[str, Any] = {field: value}
            yield field, value, replace(GROWTH_BASE, **change)


def random_tasks(case: Case, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """A meta-batch of normal noise: images `[tasks, pictures, height, width, channels]`, labels `[tasks, pictures]`."""
    generator = np.random.default_rng(seed)
    batch = {}
    for part, shot in (("support", case.shot), ("query", case.query_shot)):
        shape = (case.tasks, case.way * shot, *case.image_shape)
        batch[f"{part}_images"] = generator.normal(size=shape).astype(dtype)
        labels = np.repeat(np.arange(case.way, dtype=np.int32), shot)
        batch[f"{part}_labels"] = np.tile(labels, (case.tasks, 1))
    return batch
