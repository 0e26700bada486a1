"""The metrics that a user names, as functions of one task's labels and outputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.losses import accuracy, answers_right, with_matched_shapes
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task import Loss


class TaskMetric(NamedTuple):
    """A metric of one task.

    Attributes:
        name: under which its mean over tasks is logged.
        function: `(labels, outputs) -> [...]` or scalar.
        direction: `up` or `down`, where it is known which is better, as Keras's callbacks ask.

    Example:
        >>> task_metrics(["mae"], OutputKind(values=True))[0].direction
        'down'
    """

    name: str
    function: Loss
    direction: str | None


def task_metrics(
    metrics: Sequence[str | Loss] | str | Loss | None,
    kind: OutputKind,
    loss_function: Loss | None = None,
    loss: Any = None,
) -> list[TaskMetric]:
    """What is measured, of `compile(metrics=...)` or of a learner's `metric`.

    Args:
        metrics: as Keras takes them, a list of names, functions and objects, logged under the names that Keras gives
            them; one alone; None for the accuracy, or the loss of a regression.
        kind: of the outputs.
        loss_function: `(labels, outputs) -> scalar`, for None where outputs are values.
        loss: that it was made of, for its name.

    Raises:
        UserError: no such metric, or two of one name.

    Example:
        >>> top = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top_2")
        >>> [(m.name, m.direction) for m in task_metrics(["accuracy", top], OutputKind())]
        [('accuracy', 'up'), ('top_2', 'up')]
    """
    if isinstance(metrics, Mapping):
        raise UserError("metrics is a list: a learner has one output, which needs no name")
    several = isinstance(metrics, list | tuple)
    found: list[TaskMetric] = []
    given: list[Any] = tf.nest.flatten(metrics) if several else [metrics]
    for metric in given:
        name = metric if several and isinstance(metric, str) else metric_name(metric, kind, loss)
        function = metric_function(metric, kind, loss_function)
        found.append(TaskMetric(name, function, _direction(metric, kind)))
    names = [metric.name for metric in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"two metrics are named '{twice}': give one of them another name")
    return found or task_metrics(None, kind, loss_function, loss)


def metric_function(metric: str | Loss | None, kind: OutputKind, default: Loss | None = None) -> Loss:
    """A metric as a function of one task's labels and outputs.

    A metric of `keras.metrics` that takes probabilities gets them, whatever the outputs are.  One that keeps state
    measures each task by itself.

    Args:
        metric: a function `(labels, outputs) -> [...]`, a `keras.metrics.Metric`, or the name of either in
            `keras.metrics`; None for the accuracy.
        kind: of the outputs.
        default: for None where outputs are values.

    Returns:
        `(labels, outputs) -> [...]` or scalar.

    Raises:
        UserError: no such metric.

    Example:
        >>> top = metric_function(keras.metrics.SparseTopKCategoricalAccuracy(k=2), OutputKind())
        >>> float(top(tf.constant([0, 1]), tf.constant([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]])))
        0.5
    """
    if metric is None and kind.values and default:
        return default
    if metric in (None, "accuracy", "acc"):
        if kind.values:
            raise UserError(f"metric {metric!r} needs classes, and this learner's outputs are numbers")
        return partial(answers_right, threshold=kind.threshold) if kind.independent else accuracy
    found = _named_metric(metric) if isinstance(metric, str) else metric
    if not callable(found) or isinstance(found, type):
        raise UserError(
            f"metric {metric!r} is not one of keras.metrics, such as 'mean_squared_error', nor a function "
            "(labels, outputs)"
        )
    each = _of_one_task(found) if isinstance(found, keras.metrics.Metric) else with_matched_shapes(found)
    if _takes_probabilities(found):
        return lambda labels, outputs: each(labels, kind.to_probabilities(tf.convert_to_tensor(outputs)))
    return each


def metric_name(metric: str | Loss | None, kind: OutputKind, loss: Any) -> str:
    """The name under which a metric is logged.

    Example:
        >>> metric_name(None, OutputKind(), "hinge"), metric_name(None, OutputKind(values=True), "hinge")
        ('accuracy', 'hinge')
    """
    if metric is None:
        metric = loss if kind.values else "accuracy"
    function = metric.func if isinstance(metric, partial) else metric
    default = "metric" if callable(function) else str(function)
    name = str(getattr(function, "name", None) or getattr(function, "__name__", default))
    name = "accuracy" if name == "acc" else name
    return "metric" if name in ("loss", "meta_loss", "<lambda>") else name


def _named_metric(name: str) -> Any:
    """A function of `keras.metrics`, or an object of a class there."""
    found: Any = getattr(keras.metrics, name, None)  # not `keras.metrics.get`, which makes a stateful metric of a name
    is_class = isinstance(found, type) and issubclass(found, keras.metrics.Metric)
    if found is not None and not is_class:
        return found
    try:
        return found() if is_class else keras.metrics.get(name)
    except ValueError:
        return None
    except TypeError as error:
        raise UserError(f"metric {name!r} needs arguments: give the object, keras.metrics.{name}(...)") from error


def _takes_probabilities(metric: Any) -> bool:
    """Whether a Keras metric is one of probabilities, and not told that it gets logits."""
    if isinstance(metric, keras.metrics.Metric):
        is_one = any(hasattr(metric, name) for name in ("from_logits", "threshold", "thresholds"))
        return is_one and not getattr(metric, "from_logits", False)
    is_keras = getattr(keras.metrics, getattr(metric, "__name__", ""), None) is metric
    return is_keras and bool({"from_logits", "threshold"} & set(inspect.signature(metric).parameters))


def _of_one_task(metric: keras.metrics.Metric) -> Loss:
    """A Keras metric of these labels and outputs alone: its own state is neither read nor written."""
    if not metric.variables:
        raise UserError(
            f"metric '{metric.name}' makes its state with the first data: call it once on labels and outputs of a task"
        )

    def alone(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        state = metric.stateless_update_state(metric.stateless_reset_state(), labels, outputs)
        return tf.convert_to_tensor(metric.stateless_result(state))

    return alone


def _direction(metric: Any, kind: OutputKind) -> str | None:
    """Whether more is better (`up`) or less (`down`), as far as Keras knows it."""
    if metric is None:
        return "down" if kind.values else "up"
    if metric in ("accuracy", "acc"):
        return "up"
    known = metric
    if isinstance(metric, str):
        try:
            known = keras.metrics.get(metric)  # the name of a function gives the object of its class
        except (ValueError, TypeError):
            return None
    return getattr(known, "_direction", None)
