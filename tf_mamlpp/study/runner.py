"""Runs a plan: a process for each run, a few at once.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tf_mamlpp.errors import UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.runtime import in_main_thread
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.study.progress import progress_line

POLL = 0.5
"""Seconds between looks at the processes."""


def cores_of(slot: int, jobs: int) -> list[int]:
    """The cores of one of several processes: all cores are divided, and none is shared unless they are too few.

    A run takes as many tasks at once as it has cores; its numbers do not depend on that.

    Args:
        slot: which of the processes, from 0.
        jobs: processes at once.

    Returns:
        Numbers of cores; none if the process may use all of them.

    Example:
        >>> cores_of(0, jobs=1)
        []
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

    A run whose process dies is tried once more, at the end.  A run that fails is not tried again, and neither is one
    that diverged.

    Args:
        plan: saved in its folder already.
        jobs: processes at once.
        show: called with one line on the progress of the whole plan, when it has changed.

    Example:
        >>> from tf_mamlpp.config import Config
        >>> Runner(Plan(tmp_path, Config(), runs=()), jobs=1, show=print).run()
        0/0 runs done, 100 %
    """

    def __init__(self, plan: Plan, jobs: int, show: Callable[[str], None]):
        self.plan, self.jobs, self.show = plan, jobs, show
        self._records = {(r.method, r.seed): r for r in plan.records()}
        self._queue = deque(r for run in plan.runs if (r := self._records[run]).state not in ("done", "diverged"))
        for record in self._queue:
            (record.folder / "failure.json").unlink(missing_ok=True)
            self._read_again(record)
        self._running: dict[int, _Job] = {}
        self._died: set[tuple[str, int]] = set()
        self._shown: Any = None

    def run(self) -> None:
        """Returns when every run has ended.

        Raises:
            UserError: the first run fails, by a mistake that would stop every other run too.
        """
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if in_main_thread() else ()
        handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            while self._queue or self._running:
                for slot in range(self.jobs):
                    if slot not in self._running and self._queue:
                        self._start(slot, self._queue.popleft())
                self._show_progress()
                time.sleep(POLL)
                for slot, job in list(self._running.items()):
                    if job.process.poll() is not None:
                        del self._running[slot]
                        self._after_end(job)
            self._show_progress()
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
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which then stops the runs
            )
        self._running[slot] = _Job(record, process)

    def _command(self, record: RunRecord, slot: int) -> list[str]:
        cores = ",".join(map(str, cores_of(slot, self.jobs)))
        run = [str(self.plan.workdir), record.method, str(record.seed), str(os.getpid()), cores]
        return [sys.executable, "-u", "-m", "tf_mamlpp.study.run_one", *run]

    def _after_end(self, job: _Job) -> None:
        """Queues a run again whose process died, or records that it did so twice."""
        record, status = self._read_again(job.record), job.process.returncode
        run = record.method, record.seed
        if record.state in ("unfinished", "waiting"):  # neither results nor a failure: the process was killed
            if run not in self._died:
                self._died.add(run)
                self._queue.append(record)
                return
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            failure = {"error": f"its process {how} twice; see log.txt in its folder", "diverged": False}
            write_json(record.folder / "failure.json", failure)
            self._read_again(record)
        elif record.state == "failed" and not any(r.done_updates for r in self._records.values()):
            assert record.failure
            raise UserError(f"the first run, {record.method} with seed {record.seed}, fails: {record.failure['error']}")

    def _read_again(self, record: RunRecord) -> RunRecord:
        """A new record of the same run, because a record reads each of its files once."""
        fresh = dataclasses.replace(record)
        self._records[record.method, record.seed] = fresh
        return fresh

    def _show_progress(self) -> None:
        running = {(job.record.method, job.record.seed) for job in self._running.values()}
        for job in self._running.values():
            self._read_again(job.record)
        records = list(self._records.values())
        progress = [(r.state, len(r.rows), (r.method, r.seed) in running) for r in records]
        if sys.stdout.isatty() or progress != self._shown:  # in a terminal the line counts updates too
            self._shown = progress
            self.show(progress_line(records, running, self.jobs))
