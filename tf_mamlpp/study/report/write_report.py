"""The report of a study: `report.md`, `report.html` and `figures/`, from what the runs have written so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tf_mamlpp.files import write_text
from tf_mamlpp.records.run_record import Groups, RunRecord, by_method
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.study.report.accuracy import accuracy_section
from tf_mamlpp.study.report.cost import cost_section
from tf_mamlpp.study.report.document import Block, Code, Heading, Paragraph, as_html, as_markdown
from tf_mamlpp.study.report.formatting import FigureFolder
from tf_mamlpp.study.report.learned import learned_section
from tf_mamlpp.study.report.modifications import modifications_section
from tf_mamlpp.study.report.stability import stability_section


def write_report(plan: Plan) -> Path:
    """Writes the report of what the runs have written so far.

    Args:
        plan: of the study; the files are written into its folder.

    Returns:
        The path of `report.md`.

    Example:
        >>> from tf_mamlpp.config import Config
        >>> report = write_report(Plan(tmp_path, Config(), (("maml", 0), ("maml++", 0))))
        >>> print(report.read_text())
        # Ablation of MAML++: glyphs, 5-way 1-shot
        <BLANKLINE>
        2 runs: 2 unfinished or not begun. ...
    """
    records = plan.records()
    groups = by_method(records)
    folder = FigureFolder(plan.workdir / "figures")
    blocks = [
        Heading(_title(plan), 1),
        *_summary(plan, records),
        *accuracy_section(plan, groups),
        *modifications_section(plan, groups, folder),
        *stability_section(groups, folder),
        *cost_section(groups, folder),
        *learned_section(groups, folder),
        *_commands_section(groups),
    ]
    write_text(plan.workdir / "report.md", as_markdown(blocks))
    write_text(plan.workdir / "report.html", as_html(_title(plan), blocks))
    return plan.workdir / "report.md"


def _title(plan: Plan) -> str:
    data = plan.base.data
    task = f"{data.shot}-shot" if plan.base.is_regression else f"{data.way}-way {data.shot}-shot"
    return f"Ablation of MAML++: {data.name.replace('_', '-')}, {task}"


def _summary(plan: Plan, records: Sequence[RunRecord]) -> list[Block]:
    """How many runs there are, what each is, and what they were computed on."""
    t, e, learner, model = plan.base.training, plan.base.evaluation, plan.base.learner, plan.base.model
    filters = f", {model.filters} filters" if model.name == "conv4" else ""
    paragraph = (
        f"{len(records)} runs: {_states(records)}. Each is {t.epochs} epochs of {t.updates} updates of {t.tasks} "
        f"tasks, model `{model.name}`{filters}, {learner.inner_steps} inner steps from a rate of "
        f"{learner.inner_rate:g}, query statistics `{learner.query_statistics}`; multi-step loss for "
        f"{learner.multi_step_loss_epochs} epochs, second order from epoch {learner.second_order_from_epoch + 1} "
        f"where annealed. Validation after each epoch on {e.validation_tasks} fixed tasks, test on {e.test_tasks}, "
        "the same for all methods and seeds."
    )
    machines = sorted({_machine(r) for r in records if r.process})
    return [Paragraph(paragraph), *([Paragraph(f"Each run had {'; '.join(machines)}.")] if machines else [])]


def _states(records: Sequence[RunRecord]) -> str:
    counts = {state: sum(r.state == state for r in records) for state in ("done", "diverged", "failed")}
    counts["unfinished or not begun"] = len(records) - sum(counts.values())
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _machine(record: RunRecord) -> str:
    process = record.process
    cores = f"{process['cores']} core{'s' if process['cores'] > 1 else ''}"
    return f"{cores} of {process['device']}, TensorFlow {process['tensorflow']}"


def _commands_section(groups: Groups) -> list[Block]:
    """The commands that make the same study: one for each set of seeds that methods have in common."""
    methods_by_seeds: dict[tuple[int, ...], list[str]] = {}
    for method, group in groups.items():
        methods_by_seeds.setdefault(tuple(r.seed for r in group), []).append(method)
    commands = [
        f"tf-mamlpp ablate --config=CONFIG --workdir=WORKDIR --methods='{','.join(methods)}' "
        f"--seeds={','.join(map(str, seeds))}"
        for seeds, methods in methods_by_seeds.items()
    ]
    return [
        Heading("To run it again"),
        Paragraph("The config is in `plan.json`; each run's own, its log and its numbers are in its folder."),
        Code("\n".join(commands)),
    ]
