"""The report's section on accuracy: the test results of each method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_mamlpp.records.run_record import Groups, RunRecord, metric_of
from tf_mamlpp.study.method_names import title_of
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.study.report import published_results
from tf_mamlpp.study.report.document import Block, Heading, Paragraph, Table
from tf_mamlpp.study.report.formatting import EMPTY_CELL, format_metric, mean_and_deviation, metric_values


def accuracy_section(plan: Plan, groups: Groups) -> list[Block]:
    """The table of test results, with the paper's beside them.

    Args:
        plan: of the study.
        groups: the runs of each method.

    Example:
        >>> from tf_mamlpp.config import Config
        >>> plan = Plan(tmp_path, Config(), (("maml", 0),))
        >>> heading, table, notes = accuracy_section(plan, {"maml": plan.records()})
        >>> table.rows
        [['MAML', '0, 1 waiting', '–', '–', '–', '91.27 ± 1.07†']]
    """
    metric, data = metric_of(groups), plan.base.data
    published = published_results.columns(data.name, data.way, data.shot) if metric == "accuracy" else {}
    unit = " (%)" if metric == "accuracy" else ""
    members = {r.results["ensemble"] for group in groups.values() for r in group if r.results}
    count = "/".join(map(str, sorted(members))) or "best"
    header = ["method", "seeds", f"ensemble of {count}{unit}", f"best epoch{unit}", "one seed's interval", *published]
    rows = [
        [
            title_of(method),
            _seeds(group),
            mean_and_deviation(metric_values(group, "ensemble"), metric),
            mean_and_deviation(metric_values(group, "single_model"), metric),
            _mean_interval_over_tasks(group, metric),
            *(column.get(method, EMPTY_CELL) for column in published.values()),
        ]
        for method, group in groups.items()
    ]
    notes = (
        f"Test {metric.replace('_', ' ')}, mean ± standard deviation over seeds, of the mean softmax of the best "
        "validation epochs and of the best epoch alone. The interval is 1.96 standard errors over the test tasks of "
        "one run's ensemble: with a single seed it is all that is known, and it says nothing of other seeds."
    )
    if published:
        notes += (
            " The paper's columns are its three seeds with its far larger budget; "
            f"{published_results.RECALLED} is quoted from memory and not confirmed."
        )
    return [Heading("Accuracy" if metric == "accuracy" else "Error"), Table(header, rows), Paragraph(notes)]


def _seeds(group: Sequence[RunRecord]) -> str:
    """How many seeds are done, and what became of the others: `2, 1 diverged`."""
    states = [r.state for r in group]
    others = [f"{states.count(s)} {s}" for s in ("diverged", "failed", "unfinished", "waiting") if s in states]
    return ", ".join([str(states.count("done")), *others])


def _mean_interval_over_tasks(group: Sequence[RunRecord], metric: str) -> str:
    halves = [r.results["confidence_95"] for r in group if r.results and r.results["confidence_95"] is not None]
    return f"± {format_metric(float(np.mean(halves)), metric)}" if halves else EMPTY_CELL
