"""The report of a study: `report.md`, `report.html` and `figures/`, from what the runs have left so far."""

from __future__ import annotations

from pathlib import Path

from tf_mamlpp.files import write_text
from tf_mamlpp.records.run_record import Groups, by_method
from tf_mamlpp.study.plan import Plan
from tf_mamlpp.study.report.accuracy import accuracy, pays
from tf_mamlpp.study.report.behaviour import cost, learned, stability
from tf_mamlpp.study.report.document import Block, Code, Heading, Paragraph, markdown, page
from tf_mamlpp.study.report.formatting import Figures


def write_report(plan: Plan) -> Path:
    """Writes the report of what the runs have left so far.

    Returns:
        The path of `report.md`.
    """
    groups = by_method(plan.records())
    draw = Figures(plan.workdir / "figures")
    blocks = [
        Heading(_title(plan), 1),
        *_what(plan, groups),
        *accuracy(plan, groups),
        *pays(plan, groups, draw),
        *stability(groups, draw),
        *cost(groups, draw),
        *learned(groups, draw),
        *_again(groups),
    ]
    write_text(plan.workdir / "report.md", markdown(blocks))
    write_text(plan.workdir / "report.html", page(_title(plan), blocks))
    return plan.workdir / "report.md"


def _title(plan: Plan) -> str:
    d = plan.base.data
    task = f"{d.shot}-shot" if d.name == "sinusoid" else f"{d.way}-way {d.shot}-shot"
    return f"Ablation of MAML++: {d.name.replace('_', '-')}, {task}"


def _what(plan: Plan, groups: Groups) -> list[Block]:
    records = [r for group in groups.values() for r in group]
    t, e, learner = plan.base.training, plan.base.evaluation, plan.base.learner
    counts = {state: sum(r.state == state for r in records) for state in ("done", "diverged", "failed")}
    left = len(records) - sum(counts.values())
    state = ", ".join(
        f"{count} {name}" for name, count in (*counts.items(), ("unfinished or not begun", left)) if count
    )
    processes = [r.process for r in records if r.process]
    machines = sorted(
        {
            f"{p['cores']} core{'s' if p['cores'] > 1 else ''} of {p['device']}, TensorFlow {p['tensorflow']}"
            for p in processes
        }
    )
    model = plan.base.model
    shape = f", {model.filters} filters" if model.name == "conv4" else ""
    return [
        Paragraph(
            f"{len(records)} runs: {state}. Each is {t.epochs} epochs of {t.updates} updates of {t.tasks} tasks, model "
            f"`{model.name}`{shape}, {learner.inner_steps} inner steps from a rate of {learner.inner_rate:g}, query "
            f"statistics `{learner.query_statistics}`; multi-step loss for {learner.multi_step_loss_epochs} epochs, "
            f"second order from epoch {learner.second_order_from_epoch + 1} where annealed. Validation after each "
            f"epoch on {e.validation_tasks} fixed tasks, test on {e.test_tasks}, the same for all methods and seeds."
        ),
        *([Paragraph(f"Each run had {'; '.join(machines)}.")] if machines else []),
    ]


def _again(groups: Groups) -> list[Block]:
    seeds: dict[tuple[int, ...], list[str]] = {}
    for method, group in groups.items():
        seeds.setdefault(tuple(r.seed for r in group), []).append(method)
    lines = [
        f"python bin/ablate.py --config=CONFIG --workdir=WORKDIR --methods='{','.join(methods)}' "
        f"--seeds={','.join(map(str, numbers))}"
        for numbers, methods in seeds.items()
    ]
    return [
        Heading("To run it again"),
        Paragraph("The config is in `plan.json`; each run's own, its log and its numbers are in its folder."),
        Code("\n".join(lines)),
    ]
