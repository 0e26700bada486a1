"""The machine: threads, cores, memory, device.  `configure` comes before anything else that imports TensorFlow."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator, MutableMapping

from tf_mamlpp.errors import UserError, reason


def cores() -> int:
    """Cores that this process may use.

    Example:
        >>> cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_keras_backend() -> None:
    """Refuses another backend of Keras than TensorFlow, as far as the environment tells; imports nothing.

    Raises:
        UserError: naming the backend.

    Example:
        >>> check_keras_backend()
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UserError(f"KERAS_BACKEND is {backend}, and tf_mamlpp needs tensorflow: unset it")


def configure() -> None:
    """Quiets TensorFlow's log, and on a CPU gives each task one thread.

    On a CPU, one thread an operation and as many tasks at once as there are cores is a third faster than
    TensorFlow's default (BUILD_NOTES.md).  On a GPU the defaults stay.  Grappler's remapper is off: it finds nothing
    in these graphs and prints an error for each.  oneDNN's convolutions are on for x86 processors older than those
    that TensorFlow turns it on for; `TF_ENABLE_ONEDNN_OPTS=0` in the environment turns it off.

    Raises:
        RuntimeError: TensorFlow was used before.
        UserError: Keras is told to use another backend.

    Example: the first lines of a program.
        >>> from tf_mamlpp.runtime import configure  # and then: configure()
    """
    check_keras_backend()
    set_environment(os.environ)
    with _quiet_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    tf.config.optimizer.set_experimental_options({"remapping": False})


def set_environment(environment: MutableMapping[str, str]) -> None:
    """Sets the variables that TensorFlow reads when it is loaded; what the user has set stays.

    Args:
        environment: `os.environ`.

    Example:
        >>> variables = {"TF_ENABLE_ONEDNN_OPTS": "0"}
        >>> set_environment(variables)
        >>> variables
        {'TF_ENABLE_ONEDNN_OPTS': '0', 'TF_CPP_MIN_LOG_LEVEL': '3'}
    """
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine().lower() in ("x86_64", "amd64"):
        environment.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what native code prints before its log level applies; an error shows it after all."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def in_main_thread() -> bool:
    """Whether this is the main thread, the only one in which Python sets handlers of signals.

    Example:
        >>> in_main_thread()
        True
    """
    return threading.current_thread() is threading.main_thread()


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process.

    Returns:
        MB (2^20 bytes) now, and at its peak; without Linux's /proc the peak for both.

    Example:
        >>> now, peak = memory_mb()
        >>> 0 < now <= peak
        True
    """
    try:
        # Not getrusage there: a new process's maximum begins with what its parent had.
        with open("/proc/self/status") as file:
            sizes = dict(line.split(":", 1) for line in file)
        now, peak = (int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return peak, peak


def gpu_names() -> list[str]:
    """The names of the GPUs that TensorFlow sees; none on a CPU.

    Example:
        >>> all(isinstance(name, str) for name in gpu_names())
        True
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]


def device_name() -> str:
    """The name of the first GPU, or `CPU`.

    Example:
        >>> device_name() != ""
        True
    """
    return (gpu_names() or ["CPU"])[0]


@contextlib.contextmanager
def explain_memory_errors() -> Iterator[None]:
    """Makes one clear error of too little memory.

    Raises:
        UserError: in place of what Python or TensorFlow raises when memory is short.

    Example:
        >>> with explain_memory_errors():
        ...     raise MemoryError("no more")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: out of memory (no more): a smaller learner.parallel_tasks ...
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.AlreadyExistsError, MemoryError) as error:
        # AlreadyExists: where TensorFlow expects memory to run short, it makes temporary variables of sums, which clash
        # in loops.
        raise UserError(
            f"out of memory ({reason(error)}): a smaller learner.parallel_tasks or training.tasks needs less, and so "
            "does learner.rematerialise, learner.batched_tasks=false, or a smaller model"
        ) from error
