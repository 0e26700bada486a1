"""The benchmark's results: as tables, and compared with those of an earlier run.  Imports no framework."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tf_mamlpp.benchmark.cases import Case
from tf_mamlpp.errors import UserError
from tf_mamlpp.runtime import cores

Results = dict[str, Any]


CASE_NOTES = """\
First s: seconds to the first update, tracing included. Of peak: GFLOP/s as a share of the float32 matmul peak measured
just before and after. Above import: the part of the peak memory that came after TensorFlow was loaded. Input: the
time to draw a meta-batch, as a share of the update's."""


def machine() -> Results:
    """What a time depends on beside the program."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": processor, "cores": cores()}


def case_header() -> str:
    return (
        f"{'case':<42}{'ms':>8}{'fastest':>9}{'tasks/s':>9}{'first s':>9}{'GFLOP':>8}{'of peak':>9}{'peak MB':>9}"
        f"{'above import':>14}{'input':>8}"
    )


def case_row(name: str, r: Mapping[str, float]) -> str:
    return (
        f"{name:<42}{r['milliseconds']:>8.0f}{r['fastest_milliseconds']:>9.0f}{r['tasks_per_second']:>9.1f}"
        f"{r['first_step_seconds']:>9.1f}{r['gflop']:>8.1f}{r['share_of_matmul_peak']:>9.1%}"
        f"{r['peak_memory_mb']:>9.0f}{r['memory_above_import_mb']:>14.0f}{r['input_share']:>8.1%}"
    )


def serving_lines(served: Mapping[str, float]) -> list[str]:
    """What `serving_benchmark.run_serving` found."""
    lines = [
        f"adapt, {shot} shot  {served[f'adapt_{shot}shot_milliseconds']:8.1f} ms "
        f"(95 % below {served[f'adapt_{shot}shot_milliseconds_95']:.1f})"
        f"{served[f'adapt_{shot}shot_tasks_per_second']:10.1f} tasks/s"
        for shot in (1, 5)
    ]
    return [
        *lines,
        f"predict, 1 picture{served['predict_milliseconds']:6.1f} ms "
        f"(95 % below {served['predict_milliseconds_95']:.1f})"
        f"{served['predict_pictures_per_second']:10.0f} pictures/s, 64 a call",
    ]


_COMPARED = {
    "ms": "milliseconds",
    "fastest": "fastest_milliseconds",
    "first s": "first_step_seconds",
    "GFLOP": "gflop",
    "of peak": "share_of_matmul_peak",
    "peak MB": "peak_memory_mb",
    "above import": "memory_above_import_mb",
    "matmul peak": "matmul_gflops_per_second",
}


def load(path: str) -> Results:
    """The results in a file: the output of a `--json` run, or its last line alone.

    Raises:
        UserError: no such file, or no results in it that `comparison` can use.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8").strip().rpartition("\n")[2])
        problem = _problem(results)
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    except (ValueError, RecursionError):
        problem = "has no timed cases"
    if problem:
        raise UserError(f"'{path}' {problem}: it has to be the output of bin/benchmark.py --json")
    return results


def _problem(results: Any) -> str | None:
    if not isinstance(results, dict) or not all(_is_filled(results.get(key)) for key in ("machine", "cases")):
        return "has no timed cases"
    for name, found in results["cases"].items():
        if not _is_filled(found) or not _is_filled(found.get("case")) or not isinstance(found.get("device"), str):
            return f"does not say what case '{name}' was"
        for key in _COMPARED.values():
            number = found.get(key)
            if type(number) not in (int, float) or not 0 < number <= sys.float_info.max:
                return f"has no number above 0 as {key} of case '{name}'"
    return None


def _is_filled(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def check_comparable(before: Results, cases: Mapping[str, Case]) -> None:
    """Refuses an earlier run on another machine, or of other cases.

    Args:
        before: what `load` gave.
        cases: those about to be timed.

    Raises:
        UserError: naming what differs.
    """
    _check_same("the machine", before["machine"], machine())
    for name, case in cases.items():
        if name not in before["cases"]:
            raise UserError(f"the earlier results have no case '{name}', only {', '.join(before['cases'])}")
        # Through JSON, which knows no tuples; a field that an earlier version did not have had its default.
        usual, now = (json.loads(json.dumps(asdict(one))) for one in (Case(), case))
        _check_same(f"case '{name}'", {**usual, **before["cases"][name]["case"]}, now)


def _check_same(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            raise UserError(
                f"the earlier results cannot be compared: {what} had {key}={then.get(key)!r}, now {now.get(key)!r}"
            )


def comparison(before: Results, now: Results) -> list[str]:
    """A table: for each case, now as a multiple of the earlier run.

    Raises:
        UserError: a case that ran on another device.
    """
    lines = [f"{'now / earlier':<42}" + "".join(f"{title:>14}" for title in _COMPARED)]
    for name, numbers in now["cases"].items():
        earlier = before["cases"][name]
        _check_same(f"case '{name}'", *({"device": one["device"]} for one in (earlier, numbers)))
        lines.append(f"{name:<42}" + "".join(f"{numbers[key] / earlier[key]:>14.2f}" for key in _COMPARED.values()))
    return lines


def race_table(name: str, timed: Mapping[str, Any]) -> list[str]:
    """A table of `benchmark_runs.Timed`: times and memory as multiples of this package's."""
    same = f"{'ours = 1':>10}"
    lines = [f"{name:<42}{'ms':>8}{same}{'fastest':>9}{same}{'above import':>14}{same}  cores"]
    ours = timed["ours"]
    for contestant, t in timed.items():
        lines.append(
            f"  {contestant:<40}{t.milliseconds:>8.0f}{t.milliseconds / ours.milliseconds:>10.2f}"
            f"{t.fastest:>9.0f}{t.fastest / ours.fastest:>10.2f}{t.memory:>14.0f}{t.memory / ours.memory:>10.2f}"
            f"  {t.layout}"
        )
    return lines


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """p of the least-squares fit of values = c sizes^p, in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth_table(points: Sequence[tuple[str, int, float, float]]) -> tuple[list[str], Results]:
    """Lines for the eye, and the same as numbers.

    Args:
        points: the field that grows, its value, milliseconds of the fastest update, and memory above import in
            MB.
    """
    lines = [
        f"{'grows':<14}{'values':<18}{'fastest ms':<30}{'MB above import':<30}{'time ~ n^':>10}{'memory ~ n^':>13}"
    ]
    found: Results = {}
    for field in dict.fromkeys(point[0] for point in points):
        sizes, times, memory = zip(*(numbers for name, *numbers in points if name == field), strict=True)
        fits = exponent(sizes, times), exponent(sizes, memory)
        found[field] = {
            "values": sizes,
            "fastest_milliseconds": times,
            "memory_above_import_mb": memory,
            "time_exponent": fits[0],
            "memory_exponent": fits[1],
        }
        listed = (" ".join(f"{v:.0f}" for v in values) for values in (sizes, times, memory))
        columns = "".join(f"{text:<{width}}" for text, width in zip(listed, (18, 30, 30), strict=True))
        lines.append(f"{field:<14}{columns}{fits[0]:>10.2f}{fits[1]:>13.2f}")
    return lines, found
