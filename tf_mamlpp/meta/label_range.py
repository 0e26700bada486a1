"""Which numbers labels may be, told in one line where they are others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError


class LabelRange(NamedTuple):
    """The numbers of a task's classes.

    Attributes:
        way: how many classes there are; None where labels are no numbers of classes.
        ignored: another label, which does not count (`ignore_class` of a Keras loss).
        any_way: whether a task may have any number of classes, those of its support set; `way` is then not looked at.

    Example:
        >>> LabelRange(way=5).check([0, 7], "support_y")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: support_y has the label 7: those of a 5-way task are 0 to 4
    """

    way: int | None = None
    ignored: int | None = None
    any_way: bool = False

    def check(self, labels: Any, name: str) -> None:
        """Refuses labels that are no class.

        Args:
            labels: of any shape; others than whole numbers pass.
            name: for the error.

        Raises:
            UserError: naming one that is too large, or negative.
        """
        numbers = self._numbers(labels)
        if numbers is None:
            return
        wrong = numbers[(numbers < 0) | (False if self.any_way else numbers >= self.way)]
        if wrong.size:
            raise UserError(self._told(name, wrong[0]))

    def check_support(self, labels: Any, name: str = "support_labels") -> None:
        """`check` of a support set; if there may be any number of classes, each of them needs an example."""
        self.check(labels, name)
        numbers = self._numbers(labels) if self.any_way else None
        if numbers is None:
            return
        found = np.unique(numbers)
        missing = found.size and found[-1] >= found.size
        if missing:
            first = int(np.argmax(found != np.arange(found.size)))
            raise UserError(f"{name} has the label {found[-1]} and none of class {first}: number classes from 0")

    def check_tasks(self, tasks: Mapping[str, Any]) -> None:
        """`check` of all labels in a meta-batch.

        Args:
            tasks: under the names of `task.Task`.
        """
        support = tasks["support_labels"] if "support_labels" in tasks else []
        self.check_support(support)
        if "query_labels" not in tasks:
            return
        numbers = self._numbers(support) if self.any_way else None
        of_support = self if numbers is None else self._replace(way=int(numbers.max(initial=-1)) + 1, any_way=False)
        of_support.check(tasks["query_labels"], "query_labels")

    def _numbers(self, labels: Any) -> np.ndarray | None:
        """Those of classes, flat; None where labels are none."""
        values = np.asarray(labels).reshape(-1)
        if self.way is None or not np.issubdtype(values.dtype, np.integer):
            return None
        return values if self.ignored is None else values[values != self.ignored]

    def _told(self, name: str, label: Any) -> str:
        if self.any_way:
            return f"{name} has the label {label}: those of a task's classes are 0 and up, each in its support set"
        assert self.way is not None
        return f"{name} has the label {label}: those of a {self.way}-way task are 0 to {self.way - 1}"


def label_range(loss: Any, way: int | None, any_way: bool = False) -> LabelRange:
    """Which labels a loss takes.

    Args:
        loss: of `keras.losses`, or a function.
        way: classes of a task.
        any_way: whether there may be other numbers of them.

    Example:
        >>> label_range(keras.losses.SparseCategoricalCrossentropy(ignore_class=255), way=5)
        LabelRange(way=5, ignored=255, any_way=False)
        >>> label_range("mean_squared_error", way=5)
        LabelRange(way=None, ignored=None, any_way=False)
    """
    function, keywords = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    is_sparse = function is keras.losses.sparse_categorical_crossentropy
    if not is_sparse and not isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return LabelRange()
    return LabelRange(way, getattr(loss, "ignore_class", keywords.get("ignore_class")), any_way)


@contextmanager
def plain_label_errors(labels: LabelRange) -> Iterator[None]:
    """Tells in one line the label that TensorFlow's cross-entropy refuses; on a GPU it does not look.

    Args:
        labels: that there may be.

    Example:
        >>> with plain_label_errors(LabelRange(way=2)):
        ...     tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([5]), tf.zeros((1, 2)))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: a task has the label 5: those of a 2-way task are 0 to 1
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        ours = re.search(r"UserError: (.*)", str(error))  # raised in a generator, which TensorFlow runs
        if ours:
            raise UserError(ours[1]) from error
        found = re.search(r"label value of (-?\d+) which is outside the valid range", str(error))
        if labels.way is None or not found:
            raise
        raise UserError(labels._told("a task", found[1])) from error
