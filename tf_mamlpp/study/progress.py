"""How far a plan is, and how long the rest takes.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.text import duration

_ENDED = ("done", "diverged", "failed")


def progress_line(records: Sequence[RunRecord], running: set[tuple[str, int]], jobs: int) -> str:
    """One line on the progress of a plan.

    Args:
        records: of all runs of the plan.
        running: method and seed of the runs whose processes run.
        jobs: processes at once.

    Returns:
        A line such as `4/21 runs done, 23 %, about 3.4 h left; maml++ seed 0: update 60/240, accuracy 0.912`.

    Example:
        >>> _ = (tmp_path / "updates.csv").write_text("update,update_loss\\n1,0.9\\n2,0.8\\n")
        >>> progress_line([RunRecord("maml", 0, tmp_path, updates=8)], running={("maml", 0)}, jobs=1)
        '0/1 runs done, 25 %; maml seed 0: update 2/8'
    """
    ended = sum(r.state in _ENDED for r in records)
    done = sum(r.updates if r.state == "done" else r.done_updates for r in records)
    total = sum(r.updates for r in records)
    without_result = sum(r.state in ("diverged", "failed") for r in records)
    left = seconds_left(records, jobs)
    parts = [f"{ended}/{len(records)} runs done, {100 * done / total if total else 100:.0f} %"]
    if without_result:
        parts.append(f"{without_result} without result")
    if left:
        parts.append(f"about {duration(left)} left")
    return "; ".join([", ".join(parts), *(_run_line(r) for r in records if (r.method, r.seed) in running)])


def _run_line(record: RunRecord) -> str:
    values = record.validation()[2]
    last = f", {record.metric} {values[-1]:.3f}" if values else ""
    return f"{record.method} seed {record.seed}: update {record.done_updates}/{record.updates}{last}"


def seconds_left(records: Sequence[RunRecord], jobs: int) -> float | None:
    """How long the rest of a plan takes at the speed so far, validation included.

    A run that has not begun is taken to be as fast as the mean of its method's other seeds, or else of all runs.

    Args:
        records: of all runs of the plan.
        jobs: processes at once.

    Returns:
        Seconds; None before the first epoch of any run.

    Example:
        >>> _ = (tmp_path / "metrics.jsonl").write_text('{"update": 10, "seconds": 5.0}\\n')
        >>> begun, waiting = RunRecord("maml", 0, tmp_path, 10), RunRecord("maml", 1, tmp_path / "none", 10)
        >>> seconds_left([begun, waiting], jobs=2)  # half a second an update, 20 updates, two at once
        5.0
    """
    speeds = {(r.method, r.seed): r.rows[-1]["seconds"] / r.rows[-1]["update"] for r in records if r.rows}
    if not speeds:
        return None
    total = longest = 0.0
    for r in records:
        if r.state in _ENDED:
            continue
        of_method = [speed for (method, _), speed in speeds.items() if method == r.method]
        speed = speeds.get((r.method, r.seed)) or float(np.mean(of_method or list(speeds.values())))
        seconds = (r.updates - r.done_updates) * speed
        total, longest = total + seconds, max(longest, seconds)
    return max(total / jobs, longest)
