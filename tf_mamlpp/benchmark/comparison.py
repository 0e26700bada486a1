"""The benchmark's results compared with those of an earlier run.  Imports no TensorFlow."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tf_mamlpp.benchmark.cases import Case
from tf_mamlpp.errors import UserError
from tf_mamlpp.runtime import cores

Results = dict[str, Any]

# The columns of the table, and their entries in the results.
_COLUMNS = {
    "ms": "milliseconds",
    "fastest": "fastest_milliseconds",
    "first s": "first_step_seconds",
    "GFLOP": "gflop",
    "of peak": "share_of_matmul_peak",
    "peak MB": "peak_memory_mb",
    "above import": "memory_above_import_mb",
    "matmul peak": "matmul_gflops_per_second",
}


def machine() -> Results:
    """The processor and its cores, without which times mean nothing.

    Example:
        >>> sorted(machine())
        ['cores', 'processor']
    """
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": processor, "cores": cores()}


def load_results(path: str | os.PathLike[str]) -> Results:
    """Reads the results of an earlier run.

    Args:
        path: a file with the output of a `--json` run, or with its last line alone.

    Raises:
        UserError: no such file, or no results in it that can be compared.

    Example:
        >>> load_results(tmp_path / "before.txt")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: cannot read '...before.txt': No such file or directory
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8").strip().rpartition("\n")[2])
        problem = _problem(results)
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    except (ValueError, RecursionError):
        problem = "has no timed cases"
    if problem:
        raise UserError(f"'{path}' {problem}: it has to be the output of tf-mamlpp benchmark --json")
    return results


def _problem(results: Any) -> str | None:
    """Why results cannot be compared; None if they can."""
    if not isinstance(results, dict) or not all(_is_filled(results.get(key)) for key in ("machine", "cases")):
        return "has no timed cases"
    for name, measured in results["cases"].items():
        is_described = _is_filled(measured) and _is_filled(measured.get("case"))
        if not is_described or not isinstance(measured.get("device"), str):
            return f"does not say what case '{name}' was"
        for key in _COLUMNS.values():
            value = measured.get(key)
            if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
                return f"has no number above 0 as {key} of case '{name}'"
    return None


def _is_filled(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def check_comparable(before: Results, cases: Mapping[str, Case]) -> None:
    """Refuses an earlier run on another machine, or of other cases.

    Args:
        before: what `load_results` returned.
        cases: the cases to be timed.

    Raises:
        UserError: names what differs.

    Example:
        >>> check_comparable({"machine": machine(), "cases": {"large": {}}}, {"small": Case()})
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: the earlier results have no case 'small', only large
    """
    _check_same("the machine", before["machine"], machine())
    for name, case in cases.items():
        if name not in before["cases"]:
            raise UserError(f"the earlier results have no case '{name}', only {', '.join(before['cases'])}")
        # Through JSON, which makes lists of tuples.  A field that the earlier version did not have had its default.
        defaults, now = (json.loads(json.dumps(asdict(one))) for one in (Case(), case))
        _check_same(f"case '{name}'", {**defaults, **before["cases"][name]["case"]}, now)


def _check_same(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            raise UserError(
                f"the earlier results cannot be compared: {what} had {key}={then.get(key)!r}, now {now.get(key)!r}"
            )


def comparison_table(before: Results, now: Results) -> list[str]:
    """The lines of a table of each case, now divided by before.

    Args:
        before: what `load_results` returned.
        now: the results of this run.

    Raises:
        UserError: a case ran on another device.

    Example:
        >>> slow = {"cases": {"small": {"device": "CPU", **dict.fromkeys(_COLUMNS.values(), 4.0)}}}
        >>> fast = {"cases": {"small": {"device": "CPU", **dict.fromkeys(_COLUMNS.values(), 1.0)}}}
        >>> comparison_table(slow, fast)[1].split()[:3]
        ['small', '0.25', '0.25']
    """
    lines = [f"{'now / earlier':<42}" + "".join(f"{title:>14}" for title in _COLUMNS)]
    for name, measured in now["cases"].items():
        earlier = before["cases"][name]
        _check_same(f"case '{name}'", *({"device": one["device"]} for one in (earlier, measured)))
        ratios = (measured[key] / earlier[key] for key in _COLUMNS.values())
        lines.append(f"{name:<42}" + "".join(f"{ratio:>14.2f}" for ratio in ratios))
    return lines
