"""What a client of an exported model has to know."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_mamlpp.deploy.task_learner import TaskLearner

FORMAT = 1
"""Of metadata.json; another number means that its keys or the state have changed."""


def describe(
    learner: TaskLearner, image_size: tuple[int, int], channels: int, resize_policy: str = "stretch"
) -> dict[str, Any]:
    """What a client has to know, whatever the format."""
    return {
        "format": FORMAT,
        "way": learner.way,
        "inner_steps": learner.inner_steps,
        "query_statistics": learner.query_statistics,
        "state_size": learner.state_size,
        "stamp": int(learner.stamp),
        "parameters": sum(int(np.prod(v.shape)) for v in learner.model.model.trainable_variables),
        "pictures": {
            "range": [0, 255],
            "channels": channels,
            "trained_size": list(image_size),
            "resize": resize_policy,
            "mean": list(learner.mean),
            "std": list(learner.std),
        },
    }
