"""One run of an ablation in a process of its own: python -m tf_mamlpp.study.run_one WORKDIR METHOD SEED PARENT CORES

`study.runner` starts it.  When its parent ends, for whatever reason, it saves a checkpoint and ends too.
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

from tf_mamlpp.errors import Diverged, UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_files import read_json
from tf_mamlpp.study.method_names import modifications_of
from tf_mamlpp.study.plan import Plan, open_plan


def _end_with_parent(parent: int, interval: float = 1.0) -> None:
    """Starts a thread that sends SIGTERM to this process once its parent has ended; training then saves a checkpoint.

    Args:
        parent: the parent's process id.
        interval: seconds between looks.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_lock(folder: Path) -> None:
    """Waits until no other process works in a run's folder.

    A run whose parent was killed may still be saving its checkpoint there.
    """
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def _write_process(folder: Path) -> None:
    """Writes `process.json`: on what the run was computed; of a resumed run, with the largest memory of its parts."""
    import keras
    import tensorflow as tf

    from tf_mamlpp.runtime import cores, gpu_names, memory_mb

    file = folder / "process.json"
    _, peak = memory_mb()
    tree = {
        "peak_memory_mb": round(max(peak, (read_json(file) or {}).get("peak_memory_mb", 0)), 1),
        "cores": cores(),
        "device": ", ".join(gpu_names()) or platform.machine(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    write_json(file, tree)


def _train(plan: Plan, method: str, seed: int) -> None:
    """Trains or resumes one run of the plan and tests it."""
    folder = plan.folder(method, seed)
    _wait_for_lock(folder)
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.training.tensorboard import write_end, write_hparams
    from tf_mamlpp.training.train import train_and_evaluate

    config, events, modifications = plan.config(method, seed), folder / "tensorboard", modifications_of(method)
    hyperparameters = {"method": method, "seed": seed, **{m: m in modifications for m in MODIFICATIONS}}
    write_hparams(events, f"{method}, seed {seed}", hyperparameters, config.metric)
    try:
        write_end(events, train_and_evaluate(config, folder), config.metric)
    except UserError:
        write_end(events, None, config.metric)
        raise
    finally:
        _write_process(folder)


def _main(workdir: str, method: str, seed: str, parent: str, cores: str) -> int:
    _end_with_parent(int(parent))
    if cores:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    plan = open_plan(Path(workdir), None)
    try:
        _train(plan, method, int(seed))
        return 0
    except Exception as error:
        mistake = isinstance(error, UserError)
        if not mistake:
            traceback.print_exc()
        text = str(error) if mistake else f"{type(error).__name__}: {error}; see log.txt in its folder"
        failure = {"error": " ".join(text.split()), "diverged": isinstance(error, Diverged)}
        write_json(plan.folder(method, int(seed)) / "failure.json", failure)
        print(f"error: {failure['error']}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
