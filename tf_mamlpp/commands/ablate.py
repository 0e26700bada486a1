"""The paper's ablation as one resumable study, with a report.

    tf-mamlpp ablate --config=quickstart --workdir=runs/study --methods=core --seeds=0,1,2

`--config.SECTION.KEY=VALUE` overrides any setting of the config.
"""

import sys
from pathlib import Path

from tf_mamlpp import config
from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.files import claimed
from tf_mamlpp.study.method_names import GROUPS, parse_methods
from tf_mamlpp.study.plan import Plan, open_plan, save_plan

flags = Flags()

_CONFIG = flags.DEFINE_string(
    "config", None, "CONFIG[:key=value,...], the config of every run; a study that has begun has it already."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the study; a study that has begun goes on there.", required=True
)
_METHODS = flags.DEFINE_list(
    "methods",
    None,
    f"Methods to add: maml, maml++, maml+NAME+..., maml++-NAME-..., or groups ({', '.join(GROUPS)}); core for a new "
    "study.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of each of --methods.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at once; they divide the cores.", lower_bound=1)
_REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Write the report of what the runs have written so far, and run nothing."
)


def main(overrides: list[str]) -> None:
    workdir = Path(_WORKDIR.value)
    if overrides and not _CONFIG.value:
        raise UserError(f"'{overrides[0]}' needs --config: without it the study's own config is taken")
    base = config.load(_CONFIG.value, overrides) if _CONFIG.value else None
    begun = (workdir / "plan.json").exists()
    if _REPORT_ONLY.value:
        _report(open_plan(workdir, base if begun else None))  # without a study this is an error, also with --config
        return
    methods = parse_methods(_METHODS.value or ([] if begun else ["core"]))
    if _SEEDS.present and not methods:
        raise UserError(f"--seeds={','.join(_SEEDS.value)} needs --methods: those that are to have these seeds")
    if not all(seed.isdecimal() for seed in _SEEDS.value):
        raise UserError(f"--seeds takes whole numbers such as 0,1,2, not '{','.join(_SEEDS.value)}'")
    with claimed(workdir, f"the study in '{workdir}' is being run by another process: wait for it"), writing(workdir):
        plan = open_plan(workdir, base, methods, [int(seed) for seed in _SEEDS.value])
        save_plan(plan)
        _run(plan)
        _report(plan)
    _check_failures(plan)


def _run(plan: Plan) -> None:
    from tf_mamlpp.study.runner import Runner

    in_terminal = sys.stdout.isatty()

    def show(line: str) -> None:
        if in_terminal:
            print(f"\r\033[K{line}", end="", flush=True)  # in place of the line before
        else:
            print(line, flush=True)

    Runner(plan, _JOBS.value, show).run()
    if in_terminal:
        print()


def _report(plan: Plan) -> None:
    from tf_mamlpp.study.report.write_report import write_report

    print(f"report: {write_report(plan)} and report.html beside it")


def _check_failures(plan: Plan) -> None:
    failed = next((r for r in plan.records() if r.state == "failed"), None)
    if failed and failed.failure:
        raise UserError(
            f"{failed.method} with seed {failed.seed} failed: {failed.failure['error']}; the same command tries it "
            "again"
        )
