"""Tasks in every form that Keras's `fit` knows: one vocabulary inside, checked where they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.task import Task

SUPPORT, QUERY = ("support_images", "support_labels"), ("query_images", "query_labels")

_OTHER_NAMES = {
    "support_x": "support_images",
    "support_y": "support_labels",
    "query_x": "query_images",
    "query_y": "query_labels",
}

_FORM = "a dict of support_x, support_y, query_x and query_y (or support_images, support_labels, ...)"


def as_tasks(element: Any, needed: Sequence[str] = (*SUPPORT, *QUERY)) -> Task:
    """A meta-batch as Keras hands it over, under the names that this package uses inside.

    Args:
        element: a dict of `support_x`, `support_y`, `query_x` and `query_y`, or `support_images`, `support_labels`,
            `query_images` and `query_labels`; or a tuple `(dict,)`, as a generator yields.
        needed: names that it has to have.

    Raises:
        UserError: it is none, or lacks one.

    Example:
        >>> sorted(as_tasks(({"support_x": 1, "support_y": 2, "query_images": 3, "query_labels": 4}, None, None)))
        ['query_images', 'query_labels', 'support_images', 'support_labels']
        >>> as_tasks({"support_x": 1})
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: a meta-batch has no support_y: it is a dict of ..., and this has support_x
    """
    tasks = _alone(element)
    if not isinstance(tasks, Mapping):
        raise UserError(f"one element of the data is a meta-batch of tasks, {_FORM}, and not a {_kind(tasks)}")
    found: dict[str, Any] = {}
    for name, value in tasks.items():
        known = _OTHER_NAMES.get(str(name), str(name))
        if known in found:
            raise UserError(f"a meta-batch has {name} under both of its names: leave one out")
        found[known] = value
    missing = next((name for name in needed if name not in found), None)
    if missing:
        name = next(new for new, old in _OTHER_NAMES.items() if old == missing)
        raise UserError(f"a meta-batch has no {name}: it is {_FORM}, and this has {', '.join(map(str, tasks))}")
    return found


def are_tasks(element: Any) -> bool:
    """Whether an element of the data has a support set.

    Example:
        >>> are_tasks(({"support_x": 1}, None)), are_tasks({"x": 1})
        (True, False)
    """
    tasks = _alone(element)
    return isinstance(tasks, Mapping) and any(_OTHER_NAMES.get(name, name) in SUPPORT for name in tasks)


Check = Callable[[Task], None]


def keras_data(data: Any, check: Check = lambda tasks: None) -> Any:
    """Data of tasks as what Keras takes.

    Args:
        data: generators and iterators of meta-batches; a list of them; arrays of all tasks as one dict, which Keras
            cuts into meta-batches of `batch_size`.  All else (a `tf.data.Dataset`, a `PyDataset`) is returned as it
            is.
        check: of each meta-batch that is here already, or comes from Python.

    Example:
        >>> type(keras_data(iter([{"support_x": [[1.0]]}]))).__name__, len(keras_data([{"support_x": [[1.0]]}] * 3))
        ('generator', 3)
    """
    if isinstance(data, tuple) and isinstance(_alone(data), Mapping):
        data = _alone(data)
    if isinstance(data, Mapping):
        return _arrays_of(data, check) if are_tasks(data) else data
    if isinstance(data, list) and all(isinstance(_alone(batch), Mapping) for batch in data):
        return _MetaBatches(data, check)
    if isinstance(data, Iterator) and not isinstance(data, tf.data.Iterator | tf.distribute.DistributedIterator):
        return _in_tuples(data, check)
    return data


def _in_tuples(batches: Iterator[Any], check: Check) -> Iterator[Any]:
    for batch in batches:
        yield (_arrays_of(batch, check),) if isinstance(_alone(batch), Mapping) else batch


class _MetaBatches(keras.utils.PyDataset):
    """A list of meta-batches."""

    def __init__(self, batches: list[Any], check: Check):
        super().__init__()
        if not batches:
            raise UserError("there are no tasks: the list of meta-batches is empty")
        self._batches = [_arrays_of(batch, check) for batch in batches]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._batches[index]


def _arrays_of(batch: Any, check: Check) -> dict[str, Any]:
    tasks = {name: _as_arrays(value) for name, value in as_tasks(batch, ()).items()}
    check(tasks)
    return tasks


def _as_arrays(value: Any) -> Any:
    """Numbers in lists as an array; lists, tuples and dicts of arrays stay, as several inputs."""
    if isinstance(value, Mapping):
        return {name: _as_arrays(v) for name, v in value.items()}
    if isinstance(value, tuple) or (isinstance(value, list) and any(hasattr(v, "shape") for v in value)):
        return tuple(map(_as_arrays, value))
    return value if hasattr(value, "shape") else np.asarray(value)


def _alone(element: Any) -> Any:
    """The first of a tuple whose others are None: Keras's inputs without targets and sample weights."""
    while isinstance(element, tuple) and element and all(other is None for other in element[1:]):
        element = element[0]
    return element


def _kind(element: Any) -> str:
    return f"tuple of {len(element)}" if isinstance(element, tuple) else type(element).__name__
