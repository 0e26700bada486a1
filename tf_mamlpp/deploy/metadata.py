"""What a client of an exported model has to know: the content of metadata.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.deploy.state_learner import StateLearner
from tf_mamlpp.meta.confidence import Confidence

FORMAT = 1
"""Of metadata.json; it changes when the meaning of its keys or of the state does."""


def describe(
    learner: StateLearner, functions: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describes an exported model, whatever its file format.

    Args:
        learner: what is exported.
        functions: its concrete functions, by the names of their signatures.
        more: entries to add.

    Returns:
        What metadata.json holds.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> from tf_mamlpp.deploy.task_learner import task_learner
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
        >>> described = describe(deployed, functions={}, more={"note": "a test"})
        >>> described["way"], described["inner_steps"], described["pictures"]["trained_size"], described["note"]
        (3, 2, [8, 8], 'a test')
    """
    return {
        "format": FORMAT,
        "way": None if learner.any_way else learner.way,
        **_any_way(learner),
        "inner_steps": learner.inner_steps,
        "query_statistics": learner.query_statistics,
        "state_size": learner.state_size,
        "stamp": int(learner.stamp),
        "parameters": sum(int(np.prod(v.shape)) for v in learner.model.model.trainable_variables),
        **_confidence(learner),
        **learner.describe(),
        "signatures": {name: _describe_signature(function) for name, function in functions.items()},
        **(more or {}),
    }


def _confidence(learner: StateLearner) -> dict[str, Any]:
    """What clients need of it; an export of a run adds how good it is."""
    confidence = learner.confidence
    if confidence == Confidence():
        return {}
    known = confidence.known and dataclasses.asdict(confidence.known)
    return {"confidence": {"temperature": confidence.temperature, "known": known}}


def _any_way(learner: StateLearner) -> dict[str, Any]:
    """Where there may be any number of classes: how many a training task had, and how long a state is."""
    if not learner.any_way:
        return {}
    fixed = learner.size_of(0)
    return {
        "trained_way": learner.way,
        "state_size_without_classes": fixed,
        "state_size_of_a_class": learner.size_of(1) - fixed,
    }


def _describe_signature(function: Any) -> dict[str, Any]:
    positional, named = function.structured_input_signature
    inputs = {spec.name: spec for spec in (*positional, *named.values())}
    return {"inputs": _describe_tensors(inputs), "outputs": _describe_tensors(function.structured_outputs)}


def _describe_tensors(tensors: Mapping[str, tf.Tensor | tf.TensorSpec]) -> dict[str, Any]:
    return {name: {"dtype": t.dtype.name, "shape": t.shape.as_list()} for name, t in sorted(tensors.items())}
