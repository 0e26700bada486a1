"""The report's sections on accuracy: the table, what each modification is worth, and the smallest set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_record import Groups, RunRecord, metric_of
from tf_mamlpp.study import method_names
from tf_mamlpp.study.comparison import ENOUGH_SEEDS, Simplification, compare, simplify
from tf_mamlpp.study.method_names import modifications_of, name_of
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.study.report import figures, published_results
from tf_mamlpp.study.report.document import Block, Code, Heading, Paragraph, Table
from tf_mamlpp.study.report.formatting import NOTHING, Figures, interval, number, over_seeds, values_of


def accuracy(plan: Plan, groups: Groups) -> list[Block]:
    """The table of test results, with the paper's beside them."""
    metric, d = metric_of(groups), plan.base.data
    printed = published_results.columns(d.name, d.way, d.shot) if metric == "accuracy" else {}
    unit = " (%)" if metric == "accuracy" else ""
    members = {r.results["ensemble"] for group in groups.values() for r in group if r.results}
    count = "/".join(map(str, sorted(members))) or "best"
    rows = []
    for method, group in groups.items():
        done = [r for r in group if r.results]
        halves = [h for r in done if r.results and (h := r.results["confidence_95"]) is not None]
        rows.append(
            [
                method_names.title_of(method),
                _seeds(group),
                over_seeds(values_of(group, "ensemble"), metric),
                over_seeds(values_of(group, "single_model"), metric),
                f"± {number(float(np.mean(halves)), metric)}" if halves else NOTHING,
                *(column.get(method, NOTHING) for column in printed.values()),
            ]
        )
    name = metric.replace("_", " ")
    header = ["method", "seeds", f"ensemble of {count}{unit}", f"best epoch{unit}", "one seed's interval", *printed]
    notes = (
        f"Test {name}, mean ± standard deviation over seeds, of the mean softmax of the best validation epochs and "
        "of the best epoch alone. The interval is 1.96 standard errors over the test tasks of one run's ensemble: "
        "with a single seed it is all that is known, and it says nothing of other seeds."
    )
    if printed:
        notes += (
            " The paper's columns are its three seeds with its far larger budget; "
            f"{published_results.RECALLED} is quoted from memory and not confirmed."
        )
    return [Heading("Accuracy" if metric == "accuracy" else "Error"), Table(header, rows), Paragraph(notes)]


def _seeds(group: Sequence[RunRecord]) -> str:
    """`3`, or how many of them are done and what became of the others."""
    states = [r.state for r in group]
    other = [f"{states.count(s)} {s}" for s in ("diverged", "failed", "unfinished", "waiting") if s in states]
    return ", ".join([str(states.count("done")), *other])


def pays(plan: Plan, groups: Groups, draw: Figures) -> list[Block]:
    """What each modification adds to MAML and takes from MAML++, and the smallest set."""
    metric = metric_of(groups)
    simple = simplify(groups, minimise=metric != "accuracy")
    rows = []
    for m in MODIFICATIONS:
        alone, without = name_of(frozenset({m})), name_of(frozenset(MODIFICATIONS) - {m})
        gain = compare(groups.get(alone, ()), groups.get("maml", ()))
        loss = compare(groups.get(without, ()), groups.get("maml++", ()))
        if gain or loss:
            rows.append([method_names.words_of(m), interval(gain, metric), interval(loss, metric)])
    if not rows and not simple.against:
        return []
    blocks: list[Block] = [Heading("Which modifications pay")]
    if rows:
        unit = "(percentage points)" if metric == "accuracy" else ""
        blocks += [
            Table(["modification", f"added to MAML {unit}".strip(), f"taken from MAML++ {unit}".strip()], rows),
            Paragraph(
                f"Differences of the ensembles' test {metric.replace('_', ' ')} on the same tasks, with 95 % "
                f"intervals: over seeds (paired, Student's t) where both have at least {ENOUGH_SEEDS}, else over "
                "tasks, which leaves out what another seed would change. Of so many comparisons about one in twenty "
                "is off by chance."
            ),
        ]
    learner = plan.base.learner
    if {learner.query_statistics, learner.evaluation_statistics or learner.query_statistics} == {"batch"}:
        blocks.append(
            Paragraph(
                "Per-step statistics change nothing here: with query statistics `batch`, as in the published code, "
                "they are recorded and never read."
            )
        )
    blocks += draw(
        "differences",
        figures.differences(simple.against, metric),
        "Every method against MAML++, with 95 % intervals: filled dots over seeds, open ones over tasks of the seeds "
        "in common.",
    )
    return [*blocks, Heading("The smallest set", 3), *_smallest(groups, simple, metric)]


def _smallest(groups: Groups, simple: Simplification, metric: str) -> list[Block]:
    if not simple.against:
        return [Paragraph("No finished run of another method has a seed in common with MAML++.")]
    blocks: list[Block] = []
    if simple.smallest is None:
        blocks.append(Paragraph("Every other method that was run is worse than MAML++ beyond its interval."))
    else:
        d = simple.against[simple.smallest]
        tasks = compare(groups[simple.smallest], groups["maml++"], over="tasks")
        chosen = [m for m in MODIFICATIONS if m in modifications_of(simple.smallest)]
        names = ", ".join(map(method_names.words_of, chosen)) or "none"
        worst = max(-d.low if metric == "accuracy" else d.high, 0)
        blocks.append(
            Paragraph(
                "Of the sets that were run, the smallest that is not worse than MAML++ beyond its intervals, over "
                f"seeds or tasks, is **{method_names.title_of(simple.smallest)}** ({len(chosen)} of 6: {names}): "
                f"{interval(d, metric)}. That is no proof that they are equal: a loss of up to {number(worst, metric)}"
                f"{' points' if metric == 'accuracy' else ''} is within the interval."
                + (f" It rests on {d.seeds} seed{'s' if d.seeds > 1 else ''}." if d.over == "tasks" else "")
                + (
                    f" Over the tasks of these seeds alone it is {interval(tasks, metric)}."
                    if d.over == "seeds"
                    else ""
                )
            )
        )
    if simple.untested:
        blocks += [
            Paragraph(
                f"**{method_names.title_of(simple.untested)}** has what costs something when it is taken from MAML++, "
                "and was not run. To try it:"
            ),
            Code(f"python bin/ablate.py --workdir=WORKDIR --methods='{simple.untested}' --seeds=0,1,2"),
        ]
    return blocks
