"""One run of a study: what it left in its folder, read when it is asked for.  Imports no TensorFlow."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tf_mamlpp.records.diagnosis import Diagnosis, diagnose
from tf_mamlpp.records.run_files import read_json, read_metrics, read_updates, whole_rows


@dataclass(frozen=True)
class RunRecord:
    """One run of a study.

    Attributes:
        method, seed: which.
        folder: of the run; what is missing in it reads as nothing.
        updates: of the whole run, as planned.

    Example:
        >>> RunRecord("maml++", 0, tmp_path, updates=600).state
        'waiting'
    """

    method: str
    seed: int
    folder: Path
    updates: int

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Of `metrics.jsonl`, one an epoch."""
        return whole_rows(read_metrics(self.folder / "metrics.jsonl"), "seconds")

    @cached_property
    def series(self) -> dict[str, np.ndarray]:
        """Of `updates.csv`, a column for each of `run_files.UPDATE_LOGS`."""
        return read_updates(self.folder / "updates.csv")

    @cached_property
    def results(self) -> dict[str, Any] | None:
        return read_json(self.folder / "results.json")

    @cached_property
    def failure(self) -> dict[str, Any] | None:
        """`{"error", "diverged"}` of a run that ended without results."""
        return read_json(self.folder / "failure.json", "error", "diverged")

    @cached_property
    def process(self) -> dict[str, Any]:
        """How the run was computed: `peak_memory_mb`, `cores`, `device` and versions."""
        return read_json(self.folder / "process.json") or {}

    @property
    def state(self) -> str:
        """`done`, `diverged`, `failed`, `unfinished` or `waiting`."""
        if self.results:
            return "done"
        if self.failure:
            return "diverged" if self.failure["diverged"] else "failed"
        return "unfinished" if self.done_updates else "waiting"

    @property
    def done_updates(self) -> int:
        """How far it came; read anew each time."""
        file = self.folder / "updates.csv"
        if not file.exists():
            return 0
        with open(file, "rb") as opened:
            opened.seek(max(file.stat().st_size - 256, 0))
            whole = opened.read().rpartition(b"\n")[0]  # a line may be half written
        numbers = (line.split(b",")[0] for line in reversed(whole.splitlines()))
        return next((int(number) for number in numbers if number.isdigit()), 0)

    @property
    def metric(self) -> str:
        """`accuracy`, or the name of a regression's error."""
        names = (k.removeprefix("val_") for k in (self.rows[0] if self.rows else ()) if k.startswith("val_"))
        return next((n for n in names if n != "loss" and not n.startswith("step_")), "accuracy")

    @cached_property
    def diagnosis(self) -> Diagnosis:
        failure = self.failure["error"] if self.failure and self.failure["diverged"] else None
        return diagnose(self.rows, self.series, metric=self.metric, failure=failure)

    @cached_property
    def per_task(self) -> dict[str, np.ndarray] | None:
        """The test metric of each task, `{"ensemble": [tasks], "single_model": [tasks]}`."""
        file = self.folder / "test_tasks.csv"
        if not self.results or not file.exists():
            return None
        with open(file, newline="") as opened:
            table = list(csv.DictReader(opened))
        return {name: np.array([float(row[name]) for row in table]) for name in ("ensemble", "single_model")}

    def validation(self) -> tuple[list[int], list[float], list[float]]:
        """Updates, seconds and the validation metric of each epoch."""
        rows = [row for row in self.rows if f"val_{self.metric}" in row]
        return [r["update"] for r in rows], [r["seconds"] for r in rows], [r[f"val_{self.metric}"] for r in rows]

    def seconds_per_update(self, second_order: bool) -> float | None:
        """The median epoch's; None if no epoch had meta-gradients of that order."""
        of_order = (r for r in self.rows if r.get("second_order") == second_order)
        found = [value for r in of_order if (value := r.get("seconds_per_update"))]
        return float(np.median(found)) if found else None

    def seconds_to(self, level: float) -> float | None:
        """Training seconds until the first epoch whose validation metric is at `level` or better."""
        sign = 1 if self.metric == "accuracy" else -1
        _, seconds, values = self.validation()
        return next((s for s, v in zip(seconds, values, strict=True) if sign * v >= sign * level), None)


def by_method(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The records of each method, methods in the order in which they come.

    Example:
        >>> records = [RunRecord("maml", seed, tmp_path, updates=600) for seed in (0, 1)]
        >>> {method: len(group) for method, group in by_method(records).items()}
        {'maml': 2}
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.method, []).append(record)
    return groups


Groups = Mapping[str, Sequence[RunRecord]]
"""The records of each method of a study."""


def metric_of(groups: Groups) -> str:
    """The metric of a study's runs, `accuracy` or a regression's error.

    Example:
        >>> metric_of({"maml": [RunRecord("maml", 0, tmp_path, updates=600)]})
        'accuracy'
    """
    return next((r.metric for group in groups.values() for r in group if r.rows), "accuracy")
