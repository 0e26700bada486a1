"""The benchmark's results as tables of text.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_mamlpp.benchmark.races import RaceResult

CASE_NOTES = """\
First s: seconds to the first update, tracing included. Of peak: GFLOP/s as a share of the float32 matmul peak measured
just before and after. Above import: the part of the peak memory that came after TensorFlow was loaded. Input: the
time to draw a meta-batch, as a share of the update's."""


def case_header() -> str:
    """The titles above `case_row`; docs/benchmark.md explains them.

    Example:
        >>> case_header().split()[:3]
        ['case', 'ms', 'fastest']
    """
    return (
        f"{'case':<42}{'ms':>8}{'fastest':>9}{'tasks/s':>9}{'first s':>9}{'GFLOP':>8}{'of peak':>9}{'peak MB':>9}"
        f"{'above import':>14}{'input':>8}"
    )


def case_row(name: str, measured: Mapping[str, Any]) -> str:
    """A case's line of the table.

    Args:
        name: of the case.
        measured: what `run_case` returned.

    Example:
        >>> keys = ("milliseconds", "fastest_milliseconds", "tasks_per_second", "first_step_seconds", "gflop",
        ...         "share_of_matmul_peak", "peak_memory_mb", "memory_above_import_mb", "input_share")
        >>> case_row("small", dict.fromkeys(keys, 0.5)).split()[:4]
        ['small', '0', '0', '0.5']
    """
    r = measured
    return (
        f"{name:<42}{r['milliseconds']:>8.0f}{r['fastest_milliseconds']:>9.0f}{r['tasks_per_second']:>9.1f}"
        f"{r['first_step_seconds']:>9.1f}{r['gflop']:>8.1f}{r['share_of_matmul_peak']:>9.1%}"
        f"{r['peak_memory_mb']:>9.0f}{r['memory_above_import_mb']:>14.0f}{r['input_share']:>8.1%}"
    )


def serving_lines(served: Mapping[str, float]) -> list[str]:
    """The lines for an exported model.

    Args:
        served: what `serving.run_serving` returned.

    Example:
        >>> timed = ("adapt_1shot", "adapt_5shot", "predict")
        >>> keys = [f"{name}_milliseconds{end}" for name in timed for end in ("", "_95")]
        >>> rates = ["adapt_1shot_tasks_per_second", "adapt_5shot_tasks_per_second", "predict_pictures_per_second"]
        >>> print(serving_lines(dict.fromkeys([*keys, *rates], 20.0))[0])
        adapt, 1 shot      20.0 ms (95 % below 20.0)      20.0 tasks/s
    """
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


def race_table(name: str, results: Mapping[str, RaceResult]) -> list[str]:
    """A table of a race, with times and memory also as multiples of this package's.

    Args:
        name: of the case.
        results: what `race` returned.

    Example:
        >>> ours, peer = RaceResult(200, 150, 400, "2 tasks at once"), RaceResult(500, 450, 200, "2 threads")
        >>> race_table("small", {"ours": ours, "pytorch": peer})[2].split()
        ['pytorch', '500', '2.50', '450', '3.00', '200', '0.50', '2', 'threads']
    """
    ratio = f"{'ours = 1':>10}"
    lines = [f"{name:<42}{'ms':>8}{ratio}{'fastest':>9}{ratio}{'above import':>14}{ratio}  cores"]
    ours = results["ours"]
    for contestant, t in results.items():
        lines.append(
            f"  {contestant:<40}{t.milliseconds:>8.0f}{t.milliseconds / ours.milliseconds:>10.2f}"
            f"{t.fastest:>9.0f}{t.fastest / ours.fastest:>10.2f}{t.memory:>14.0f}{t.memory / ours.memory:>10.2f}"
            f"  {t.layout}"
        )
    return lines


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent p of a power law.

    Formula:
        values = c sizes^p, fitted by least squares of the logarithms

    Example:
        >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 6) + 0.0  # never -0


def growth_table(points: Sequence[tuple[str, int, float, float]]) -> tuple[list[str], dict[str, Any]]:
    """How time and memory grow with each field.

    Args:
        points: of `time_growth`.

    Returns:
        The lines of a table, and its values by field.

    Example:
        >>> points = [("way", 5, 10.0, 70.0), ("way", 10, 20.0, 70.0), ("way", 20, 40.0, 70.0)]
        >>> lines, grown = growth_table(points)
        >>> lines[1].split()
        ['way', '5', '10', '20', '10', '20', '40', '70', '70', '70', '1.00', '0.00']
    """
    lines = [
        f"{'grows':<14}{'values':<18}{'fastest ms':<30}{'MB above import':<30}{'time ~ n^':>10}{'memory ~ n^':>13}"
    ]
    grown: dict[str, Any] = {}
    for field in dict.fromkeys(point[0] for point in points):
        sizes, times, memory = zip(*(values for name, *values in points if name == field), strict=True)
        fits = exponent(sizes, times), exponent(sizes, memory)
        grown[field] = {
            "values": sizes,
            "fastest_milliseconds": times,
            "memory_above_import_mb": memory,
            "time_exponent": fits[0],
            "memory_exponent": fits[1],
        }
        texts = (" ".join(f"{v:.0f}" for v in values) for values in (sizes, times, memory))
        columns = "".join(f"{text:<{width}}" for text, width in zip(texts, (18, 30, 30), strict=True))
        lines.append(f"{field:<14}{columns}{fits[0]:>10.2f}{fits[1]:>13.2f}")
    return lines, grown
