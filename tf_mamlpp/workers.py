"""Several processes, on one machine or many, that train one run together; the chief alone reads and writes its folder.

TensorFlow's `MultiWorkerMirroredStrategy` joins them through `TF_CONFIG` (docs/scaling.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import reprlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError, WorkerLost, reason

_EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}\''
)


_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnavailableError,
)


def check_environment(text: str | None) -> list[str]:
    """Checks the `TF_CONFIG` of this process, None without one: who all the workers are, and which of them it is.

    Returns:
        The addresses of all the others.

    Raises:
        UserError: it is missing or no such description.

    Example:
        >>> cluster = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}
        >>> check_environment(json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
        ['10.0.0.2:2222']
    """
    if not text:
        raise UserError(f"training.strategy=multi_worker needs the environment variable TF_CONFIG, such as {_EXAMPLE}")
    try:
        tree = json.loads(text)
        jobs, kind, index = tree["cluster"], tree["task"]["type"], tree["task"]["index"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"TF_CONFIG is not what it should be ({error}); it is JSON, such as {_EXAMPLE}") from error
    if not isinstance(jobs, dict) or not all(isinstance(addresses, list) for addresses in jobs.values()):
        raise UserError(f"TF_CONFIG's cluster is not a list of addresses for each kind of task; see {_EXAMPLE}")
    addresses = [address for job in jobs.values() for address in job]
    wrong = [a for a in addresses if not _is_address(a)]
    if wrong or len(set(addresses)) < len(addresses):
        shown = reprlib.repr(wrong or addresses)
        raise UserError(f"TF_CONFIG's addresses are each a HOST:PORT of its own, not {shown}")
    other = [job for job in jobs if job not in ("chief", "worker")]
    if other or len(jobs.get("chief", ())) > 1:
        raise UserError(f"TF_CONFIG's cluster has workers, and at most one chief, not {other or jobs['chief']}")
    # TensorFlow takes an index in quotes too.
    if not isinstance(kind, str) or type(index) not in (int, str) or not re.fullmatch("-?[0-9]{1,9}", str(index)):
        shown = f"{reprlib.repr(kind)} {reprlib.repr(index)}"
        raise UserError(f"TF_CONFIG's task has a type and a whole number as index, not {shown}; see {_EXAMPLE}")
    if kind not in jobs or not 0 <= int(index) < len(jobs[kind]):
        raise UserError(f"TF_CONFIG's task is {f'{kind} {index}'!r}, which its cluster does not list")
    return [address for address in addresses if address != jobs[kind][int(index)]]


def _is_address(value: Any) -> bool:
    found = re.fullmatch(r"[^\s/]+:([0-9]{1,5})", value) if isinstance(value, str) else None
    return found is not None and 0 < int(found[1]) < 2**16


def join() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for the other workers that `TF_CONFIG` lists; comes before any other use of TensorFlow in the process.

    Returns:
        The strategy of all of them.

    Raises:
        UserError: `TF_CONFIG` is wrong, TensorFlow was used before, this is not the main thread, or the others cannot
            be joined.

    Example: without `TF_CONFIG`.
        >>> join()
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: training.strategy=multi_worker needs the environment variable TF_CONFIG, ...
    """
    others = check_environment(os.environ.get("TF_CONFIG"))
    if threading.current_thread() is not threading.main_thread():
        raise UserError(
            "training.strategy=multi_worker needs the main thread, which handles signals: call it from there"
        )
    if others:
        shown = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
        print(f"waiting for the other {len(others)} of {len(others) + 1} workers ({shown})", flush=True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if handlers[signal.SIGINT] is signal.default_int_handler:
        # No Python runs while TensorFlow waits, not in other threads either: only the system can end the process.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UserError(f"multi_worker needs a process that has not used TensorFlow yet: {reason(error)}") from error
    except tf.errors.OpError as error:
        raise UserError(
            f"this worker cannot join the others: {reason(error)}; is its address in TF_CONFIG, and the port free?"
        ) from error
    finally:
        # TensorFlow's own for SIGTERM, which it has just set, would swallow the signal.
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Workers:
    """The workers of a strategy and what they tell each other; every method is called by all of them, in one order.

    Args:
        strategy: any; with all but `MultiWorkerMirroredStrategy` this process is alone, and the chief.

    Example:
        >>> workers = Workers(tf.distribute.get_strategy())
        >>> workers.chief, workers.any(False), workers.share({"seed": 0})
        (True, False, {'seed': 0})
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.chief = self.alone or _is_chief(strategy.cluster_resolver)

    def any(self, flag: bool) -> bool:
        """Whether the flag of any worker is set."""
        return flag if self.alone else bool(self._sum(np.float32(flag)) > 0)

    def share(self, value: Any) -> Any:
        """What the chief's value is: anything that JSON can hold."""
        if self.alone:
            return value
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32) if self.chief else None
        size = int(self._sum(np.int32(0 if text is None else len(text))))
        text = np.zeros(size, np.int32) if text is None else text
        return json.loads(self._sum(text).astype(np.uint8).tobytes())

    def share_variables(self, variables: Sequence[tf.Variable]) -> None:
        """Gives every worker the chief's values."""
        if self.alone:
            return
        values = [v.numpy() for v in variables]
        # Exact for every type that a learner has, integers up to 2^53.
        flat = np.concatenate([np.ravel(value).astype(np.float64) for value in values])
        flat = self._sum(flat if self.chief else np.zeros_like(flat))
        ends = np.cumsum([value.size for value in values])
        for variable, value, end in zip(variables, values, ends, strict=True):
            variable.assign(flat[end - value.size : end].reshape(value.shape).astype(value.dtype))

    def _sum(self, values: Any) -> np.ndarray:
        if sum(map(len, self._strategy.cluster_resolver.cluster_spec().as_dict().values())) == 1:
            return np.asarray(values)  # TensorFlow refuses plain values on several devices of one worker
        return self._strategy.reduce("SUM", tf.constant(values), axis=None).numpy()

    @contextlib.contextmanager
    def explain_losses(self) -> Iterator[None]:
        """Turns TensorFlow's error about a worker that has ended into one that says what to do.

        Raises:
            WorkerLost: naming the workers that have ended, as far as TensorFlow does.
        """
        try:
            yield
        except _LOST as error:
            if self.alone:
                raise
            mine = self._strategy.cluster_resolver
            own = f"{mine.task_type} {mine.task_id}"
            tasks = {" ".join(found) for found in re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error))}
            raise WorkerLost(
                f"{' or '.join(sorted(tasks - {own})) or 'a worker'} of this run has ended or cannot be reached: start "
                "all workers again with the same commands; the run resumes from its last checkpoint"
            ) from error


def _is_chief(resolver: Any) -> bool:
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def step_function(strategy: tf.distribute.Strategy, step: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    """What `fit` and `evaluate` call with their iterator: `step` on every replica, its logs averaged over all of them.

    Keras's own fails with several workers: it averages scalars along an axis (keras-team/keras issue 20585).

    Args:
        strategy: of several workers.
        step: `train_step` or `test_step`.
        **settings: of `tf.function`.

    Example:
        >>> one = tf.distribute.get_strategy()
        >>> function = step_function(one, lambda data: {"loss": tf.reduce_mean(data)})
        >>> float(function(iter([tf.constant([1.0, 3.0])]))["loss"])
        2.0
    """
    names: list[str] = []

    def stacked(data: Any) -> tf.Tensor:
        logs = step(data)
        names[:] = logs
        return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])

    @tf.function(reduce_retracing=True, autograph=False, **settings)
    def means(data: Any) -> tf.Tensor:
        return strategy.reduce("MEAN", strategy.run(stacked, (data,)), axis=None)

    def function(iterator: Iterator[Any]) -> dict[str, tf.Tensor]:
        values = means(next(iterator))
        return dict(zip(names, tf.unstack(values), strict=True))

    return function
