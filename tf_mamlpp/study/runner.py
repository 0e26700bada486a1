"""Runs a plan: a process for each run, a few at once.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.text import duration

POLL = 0.5  # seconds between looks at the processes


def cores_of(slot: int, jobs: int) -> list[int]:
    """The cores of one of `jobs` processes at once: all cores are divided, none is shared unless they are too few.

    A run takes as many tasks at once as it has cores, so its numbers are the same whatever its share.  Empty: all.
    """
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores[slot::jobs] if jobs <= len(cores) else [cores[slot % len(cores)]]


@dataclass
class _Job:
    record: RunRecord
    process: subprocess.Popen[bytes]


class Runner:
    """Runs what is left of a plan.

    A run whose process dies is tried once more, at the end; one that fails is left, and so is one that diverged.

    Args:
        plan: saved in its folder already.
        jobs: processes at once.
        say: shows the progress of the whole plan; called with one line.
    """

    def __init__(self, plan: Plan, jobs: int, say: Callable[[str], None]):
        self.plan, self.jobs, self.say = plan, jobs, say
        self._records = {(r.method, r.seed): r for r in plan.records()}
        self._queue = deque(r for run in plan.runs if (r := self._records[run]).state not in ("done", "diverged"))
        for record in self._queue:
            (record.folder / "failure.json").unlink(missing_ok=True)
            self._read_anew(record)
        self._running: dict[int, _Job] = {}
        self._died: set[tuple[str, int]] = set()
        self._shown: Any = None

    def run(self) -> None:
        """Returns when every run has ended.

        Raises:
            UserError: no run can start, because of the mistake that the first of them tells.
        """
        handlers = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            while self._queue or self._running:
                for slot in range(self.jobs):
                    if slot not in self._running and self._queue:
                        self._start(slot, self._queue.popleft())
                self._show()
                time.sleep(POLL)
                for slot, job in list(self._running.items()):
                    if job.process.poll() is not None:
                        del self._running[slot]
                        self._ended(job)
            self._show()
        finally:
            self._stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @staticmethod
    def _on_signal(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    def _stop(self) -> None:
        """Lets every process save a checkpoint and end."""
        for job in self._running.values():
            job.process.terminate()
        if self._running:
            print("\nsaving checkpoints; the same command goes on there", file=sys.stderr, flush=True)
        for job in self._running.values():
            job.process.wait()

    def _start(self, slot: int, record: RunRecord) -> None:
        record.folder.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ)
        if self.jobs > 1:
            environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        with open(record.folder / "log.txt", "ab") as log:
            process = subprocess.Popen(
                self._command(record, slot),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is this process's to pass on
            )
        self._running[slot] = _Job(record, process)

    def _command(self, record: RunRecord, slot: int) -> list[str]:
        cores = ",".join(map(str, cores_of(slot, self.jobs)))
        run = [str(self.plan.workdir), record.method, str(record.seed), str(os.getpid()), cores]
        return [sys.executable, "-u", "-m", "tf_mamlpp.study.run_one", *run]

    def _ended(self, job: _Job) -> None:
        record, status = self._read_anew(job.record), job.process.returncode
        run = record.method, record.seed
        if record.state in ("unfinished", "waiting"):  # it could not say why
            if run not in self._died:
                self._died.add(run)
                self._queue.append(record)
                return
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            failure = {"error": f"its process {how} twice; see log.txt in its folder", "diverged": False}
            write_json(record.folder / "failure.json", failure)
            self._read_anew(record)
        elif record.state == "failed" and not any(r.done_updates for r in self._records.values()):
            assert record.failure
            raise UserError(f"the first run, {record.method} with seed {record.seed}, fails: {record.failure['error']}")

    def _read_anew(self, record: RunRecord) -> RunRecord:
        """What the run has left by now; a record reads each of its files once."""
        fresh = dataclasses.replace(record)
        self._records[record.method, record.seed] = fresh
        return fresh

    def _show(self) -> None:
        """Says how far the plan is, if that has changed."""
        running = {(job.record.method, job.record.seed) for job in self._running.values()}
        for job in self._running.values():
            self._read_anew(job.record)
        records = list(self._records.values())
        now = [(r.state, len(r.rows), (r.method, r.seed) in running) for r in records]
        live = sys.stdout.isatty()
        if live or now != self._shown:
            self._shown = now
            self.say(progress_line(records, running, self.jobs))


def progress_line(records: Sequence[RunRecord], running: set[tuple[str, int]], jobs: int) -> str:
    """`4/21 runs done, 23 %, about 3.4 h left; maml++ seed 0: epoch 3/24, accuracy 0.912`."""
    ended = sum(r.state in ("done", "diverged", "failed") for r in records)
    done = sum(r.updates if r.state == "done" else r.done_updates for r in records)
    total = sum(r.updates for r in records)
    left = seconds_left(records, jobs)
    parts = [f"{ended}/{len(records)} runs done, {100 * done / total:.0f} %"]
    bad = sum(r.state in ("diverged", "failed") for r in records)
    if bad:
        parts.append(f"{bad} without result")
    if left:
        parts.append(f"about {duration(left)} left")
    now = [_now(r) for r in records if (r.method, r.seed) in running]
    return "; ".join([", ".join(parts), *now])


def _now(record: RunRecord) -> str:
    values = record.validation()[2]
    shown = f", {record.metric} {values[-1]:.3f}" if values else ""
    return f"{record.method} seed {record.seed}: update {record.done_updates}/{record.updates}{shown}"


def seconds_left(records: Sequence[RunRecord], jobs: int) -> float | None:
    """What the rest of the plan takes at the speed so far, validation included; None before the first epoch.

    A run that has not begun takes as long as the mean of its method's other seeds, or else of all runs.
    """
    speeds = {(r.method, r.seed): r.rows[-1]["seconds"] / r.rows[-1]["update"] for r in records if r.rows}
    if not speeds:
        return None
    total = longest = 0.0
    for r in records:
        if r.state in ("done", "diverged", "failed"):
            continue
        method = [speed for (name, _), speed in speeds.items() if name == r.method]
        speed = speeds.get((r.method, r.seed)) or float(np.mean(method or list(speeds.values())))
        seconds = (r.updates - r.done_updates) * speed
        total, longest = total + seconds, max(longest, seconds)
    return max(total / jobs, longest)
