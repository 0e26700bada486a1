"""How TensorFlow uses the machine.  `configure` comes before anything else that imports TensorFlow."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure() -> None:
    """Quiets TensorFlow's log, and on a CPU gives each task one thread.

    On a CPU, one thread an operation and as many tasks at once as there are cores is a third faster than
    TensorFlow's default (BUILD_NOTES.md).  On a GPU the defaults stay.  Grappler's remapper is off: it finds nothing
    in these graphs and prints an error for each.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    tf.config.optimizer.set_experimental_options({"remapping": False})


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
