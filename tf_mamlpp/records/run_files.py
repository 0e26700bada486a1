"""The files that a run writes into its folder, and how they are read.  Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import json
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError, reason

UPDATE_LOGS = ("update_loss", "gradient_norm", "clipped")
"""Logs of a training step that belong to its update alone: the outer loss, the norm of the meta-gradient before
clipping, and the fraction of the gradient's entries that were clipped.  `updates.csv` has a column for each."""

_LARGEST_GAP = 500  # updates; more lines than one damaged block of a disk holds


def read_updates(path: Path) -> dict[str, np.ndarray]:
    """The columns of an `updates.csv`.

    A last line cut short by a kill is left out, and so is one out of order.  Up to 500 updates in a row whose lines
    are damaged are NaN.

    Returns:
        `update` and a column for each of `UPDATE_LOGS`, float64 `[updates]`; empty without a file.

    Example:
        >>> file = tmp_path / "updates.csv"
        >>> _ = file.write_text("update,update_loss,gradient_norm,clipped\\n1,1.5,2,0\\n2,1.2,")
        >>> read_updates(file)["update_loss"]
        array([1.5])
    """
    columns = {name: array("d") for name in ("update", *UPDATE_LOGS)}
    with open(path, "rb") if path.exists() else contextlib.nullcontext(()) as file:
        for line in file:
            try:
                numbers = [float(cell) for cell in line.split(b",")]
            except ValueError:
                continue  # the header
            done = len(columns["update"])
            if len(numbers) == len(columns) and 0 < numbers[0] - done <= 1 + _LARGEST_GAP and numbers[0].is_integer():
                _append_missing(columns, int(numbers[0]) - 1)
                for series, number in zip(columns.values(), numbers, strict=True):
                    series.append(number)
    return {name: np.array(series) for name, series in columns.items()}


def _append_missing(columns: Mapping[str, array[float]], updates: int) -> None:
    for update in range(len(columns["update"]) + 1, updates + 1):
        for name, series in columns.items():
            series.append(update if name == "update" else math.nan)


def rounded(epoch_record: Mapping[str, Any]) -> dict[str, Any]:
    """What a learner records of an epoch, as `metrics.jsonl` keeps it: tables to six digits.

    Args:
        epoch_record: of `EpisodicModel.epoch_record`; what is no table stays as it is.

    Example:
        >>> rounded({"loss_weights": [1 / 3], "inner_rates": {"dense/kernel": [0.123456789]}})
        {'loss_weights': [0.333333], 'inner_rates': {'dense/kernel': [0.123457]}}
    """
    kept = dict(epoch_record)
    if "loss_weights" in kept:
        kept["loss_weights"] = [round(weight, 6) for weight in kept["loss_weights"]]
    for name in {"inner_rates", "batch_norm_drift"} & kept.keys():
        kept[name] = {path: [float(f"{value:.6g}") for value in row] for path, row in kept[name].items()}
    return kept


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a line that was cut short by a kill, or is damaged, is left out.

    Example:
        >>> file = tmp_path / "metrics.jsonl"
        >>> _ = file.write_text('{"update": 100, "loss": 1.5}\\n{"update": 20')
        >>> read_metrics(file)
        [{'update': 100, 'loss': 1.5}]
    """
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("update")) is int:
            rows.append(row)
    return rows


def whole_rows(rows: Sequence[dict[str, Any]], *needed: str) -> list[dict[str, Any]]:
    """The rows that have every key that two have: a line that was damaged may be sound JSON still.

    Args:
        rows: of a `metrics.jsonl`.
        needed: keys that each must have, whatever the others have.

    Example:
        >>> rows = [{"update": 5, "loss": 1.5}, {"update": 10, "lost": 1.2}, {"update": 15, "loss": 1.1}]
        >>> [row["update"] for row in whole_rows(rows)]
        [5, 15]
    """
    count = Counter(key for row in rows for key in row)
    usual = {key for key, found in count.items() if found > 1} | set(needed)
    return [row for row in rows if usual <= row.keys()]


def read_json(path: Path, *keys: str) -> dict[str, Any] | None:
    """The object in a JSON file of the run.

    Args:
        path: of the file.
        keys: that the object must have.

    Returns:
        The object; None without a file.

    Raises:
        UserError: the file is damaged.

    Example:
        >>> file = tmp_path / "results.json"
        >>> _ = file.write_text('{"accuracy": 0.9}')
        >>> read_json(file, "accuracy")
        {'accuracy': 0.9}
    """
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not found.keys() >= set(keys):
            raise ValueError(f"it is no object with {', '.join(keys) or 'keys'}")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        advice = "delete it and run the command that wrote it again"
        raise UserError(f"'{path}' is damaged: {reason(error)}; {advice}") from error
