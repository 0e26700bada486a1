"""One run of an ablation in a process of its own: python -m tf_mamlpp.study.run_one WORKDIR METHOD SEED PARENT CORES

`study.runner` starts it.  It ends when its parent does, however that ends, with a checkpoint saved.
"""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from tf_mamlpp.errors import DIVERGED, UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.study.method_names import modifications_of
from tf_mamlpp.study.plan import Plan, open_plan


def end_with(parent: int, interval: float = 1.0) -> None:
    """Sends SIGTERM to this process, which saves a checkpoint then, once process `parent` is no more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def wait_for(folder: Path) -> None:
    """Waits while a process that outlived an earlier plan saves its checkpoint there."""
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def record_process(folder: Path) -> None:
    """Writes `process.json`; its memory is the largest of all parts of the run."""
    import keras
    import tensorflow as tf

    from tf_mamlpp.records.run_record import read_json
    from tf_mamlpp.runtime import cores, memory_mb

    file = folder / "process.json"
    _, peak = memory_mb()
    gpus = [tf.config.experimental.get_device_details(g).get("device_name", "GPU") for g in _gpus()]
    tree = {
        "peak_memory_mb": round(max(peak, (read_json(file) or {}).get("peak_memory_mb", 0)), 1),
        "cores": cores(),
        "device": ", ".join(gpus) or platform.machine(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    write_json(file, tree)


def _gpus() -> list[Any]:
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def run(plan: Plan, method: str, seed: int) -> None:
    """Trains or resumes one run of the plan; how it ended is in its folder."""
    folder = plan.folder(method, seed)
    wait_for(folder)
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.training.tensorboard import write_end, write_hparams
    from tf_mamlpp.training.train import train_and_evaluate

    config, events, chosen = plan.config(method, seed), folder / "tensorboard", modifications_of(method)
    metric = "mean_squared_error" if config.data.name == "sinusoid" else "accuracy"
    values = {"method": method, "seed": seed, **{m: m in chosen for m in MODIFICATIONS}}
    write_hparams(events, f"{method}, seed {seed}", values, metric)
    try:
        write_end(events, train_and_evaluate(config, folder), metric)
    except UserError:
        write_end(events, None, metric)
        raise
    finally:
        record_process(folder)


def main(workdir: str, method: str, seed: str, parent: str, cores: str) -> int:
    end_with(int(parent))
    if cores:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    plan = open_plan(Path(workdir), None)
    try:
        run(plan, method, int(seed))
        return 0
    except Exception as error:
        mistake = isinstance(error, UserError)
        if not mistake:
            traceback.print_exc()
        text = str(error) if mistake else f"{type(error).__name__}: {error}; see log.txt in its folder"
        failure = {"error": " ".join(text.split()), "diverged": mistake and DIVERGED in text}
        write_json(plan.folder(method, int(seed)) / "failure.json", failure)
        print(f"error: {failure['error']}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
