"""The report's section on the modifications: what each is worth, and the smallest set of them."""

from __future__ import annotations

from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_record import Groups, metric_of
from tf_mamlpp.study.comparison import ENOUGH_SEEDS, Difference, Simplification, compare, simplify
from tf_mamlpp.study.method_names import modifications_of, name_of, title_of, words_of
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.study.report import figures
from tf_mamlpp.study.report.document import Block, Code, Heading, Paragraph, Table
from tf_mamlpp.study.report.formatting import FigureFolder, format_difference, format_metric


def modifications_section(plan: Plan, groups: Groups, folder: FigureFolder) -> list[Block]:
    """What each modification adds to MAML and takes from MAML++, and the smallest set that is as good as all.

    Args:
        plan: of the study.
        groups: the runs of each method.
        folder: where figures are written.

    Returns:
        The section; nothing if no two methods can be compared.

    Example:
        >>> from tf_mamlpp.config import Config
        >>> plan = Plan(tmp_path, Config(), (("maml", 0),))
        >>> modifications_section(plan, {"maml": plan.records()}, FigureFolder(tmp_path))
        []
    """
    metric = metric_of(groups)
    simplification = simplify(groups, minimise=metric != "accuracy")
    table = _each_modification(groups, metric)
    if not table and not simplification.against:
        return []
    learner = plan.base.learner
    blocks: list[Block] = [Heading("Which modifications pay"), *table]
    if {learner.query_statistics, learner.evaluation_statistics or learner.query_statistics} == {"batch"}:
        blocks.append(
            Paragraph(
                "Per-step statistics change nothing here: with query statistics `batch`, as in the published code, "
                "they are recorded and never read."
            )
        )
    blocks += folder.save(
        "differences",
        figures.differences(simplification.against, metric),
        "Every method against MAML++, with 95 % intervals: filled dots over seeds, open ones over tasks of the seeds "
        "in common.",
    )
    return [*blocks, Heading("The smallest set", 3), *_smallest_set(groups, simplification, metric)]


def _each_modification(groups: Groups, metric: str) -> list[Block]:
    """A row for each modification that was added to MAML or taken from MAML++."""
    rows = []
    for modification in MODIFICATIONS:
        alone, without = name_of(frozenset({modification})), name_of(frozenset(MODIFICATIONS) - {modification})
        gain = compare(groups.get(alone, ()), groups.get("maml", ()))
        loss = compare(groups.get(without, ()), groups.get("maml++", ()))
        if gain or loss:
            rows.append([words_of(modification), format_difference(gain, metric), format_difference(loss, metric)])
    if not rows:
        return []
    unit = " (percentage points)" if metric == "accuracy" else ""
    return [
        Table(["modification", f"added to MAML{unit}", f"taken from MAML++{unit}"], rows),
        Paragraph(
            f"Differences of the ensembles' test {metric.replace('_', ' ')} on the same tasks, with 95 % "
            f"intervals: over seeds (paired, Student's t) where both have at least {ENOUGH_SEEDS}, else over "
            "tasks, which leaves out what another seed would change. Of so many comparisons about one in twenty "
            "is off by chance."
        ),
    ]


def _smallest_set(groups: Groups, simplification: Simplification, metric: str) -> list[Block]:
    if not simplification.against:
        return [Paragraph("No finished run of another method has a seed in common with MAML++.")]
    blocks: list[Block] = []
    if simplification.smallest is None:
        blocks.append(Paragraph("Every other method that was run is worse than MAML++ beyond its interval."))
    else:
        difference = simplification.against[simplification.smallest]
        over_tasks = compare(groups[simplification.smallest], groups["maml++"], over_tasks=True)
        blocks.append(Paragraph(_describe_smallest(simplification.smallest, difference, over_tasks, metric)))
    if simplification.untested:
        blocks += [
            Paragraph(
                f"**{title_of(simplification.untested)}** has what costs something when it is taken from MAML++, "
                "and was not run. To try it:"
            ),
            Code(f"tf-mamlpp ablate --workdir=WORKDIR --methods='{simplification.untested}' --seeds=0,1,2"),
        ]
    return blocks


def _describe_smallest(method: str, difference: Difference, over_tasks: Difference | None, metric: str) -> str:
    modifications = [m for m in MODIFICATIONS if m in modifications_of(method)]
    names = ", ".join(map(words_of, modifications)) or "none"
    possible_loss = max(-difference.low if metric == "accuracy" else difference.high, 0)
    text = (
        "Of the sets that were run, the smallest that is not worse than MAML++ beyond its intervals, over seeds or "
        f"tasks, is **{title_of(method)}** ({len(modifications)} of 6: {names}): "
        f"{format_difference(difference, metric)}. That is no proof that they are equal: a loss of up to "
        f"{format_metric(possible_loss, metric)}{' points' if metric == 'accuracy' else ''} is within the interval."
    )
    if difference.over == "tasks":
        return f"{text} It rests on {difference.seeds} seed{'s' if difference.seeds > 1 else ''}."
    return f"{text} Over the tasks of these seeds alone it is {format_difference(over_tasks, metric)}."
