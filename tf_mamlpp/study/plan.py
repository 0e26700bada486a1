"""The ablation as a plan: methods × seeds of one config, each a run in a folder of its own.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.config.schema import prefixed
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_files import read_json
from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.method_names import GROUPS, modifications_of


@dataclass(frozen=True)
class Plan:
    """The runs of a study, and where they are kept.

    Attributes:
        workdir: the folder of `plan.json`, of a folder `METHOD/seed-N` for each run, and of the report.
        base: the config of every run, but for the six modifications and the seed.
        runs: (method, seed), in the order in which they are run.

    Example:
        >>> plan = Plan(tmp_path, Config(), (("maml", 0), ("maml++", 0)))
        >>> plan.config("maml++", 0).method
        'maml++'
        >>> [(record.method, record.state) for record in plan.records()]
        [('maml', 'waiting'), ('maml++', 'waiting')]
    """

    workdir: Path
    base: Config
    runs: tuple[tuple[str, int], ...]

    def config(self, method: str, seed: int) -> Config:
        """The config of one run.

        Raises:
            UserError: the base config's settings contradict the method's.
        """
        chosen = modifications_of(method)
        switches: dict[str, Any] = {m: m in chosen for m in MODIFICATIONS}
        with prefixed("learner."):
            learner = dataclasses.replace(self.base.learner, **switches)
        return dataclasses.replace(self.base, learner=learner, seed=seed)

    def folder(self, method: str, seed: int) -> Path:
        """The folder of one run."""
        return self.workdir / method / f"seed-{seed}"

    def records(self) -> list[RunRecord]:
        """What the runs have written so far: by method, in the order of the group `all`, then by seed."""
        updates = self.base.training.epochs * self.base.training.updates
        order = {name: float(i) for i, name in enumerate(GROUPS["all"])}
        others = order["maml++"] - 0.5  # methods of no group come just before `maml++`
        runs = sorted(self.runs, key=lambda run: (order.get(run[0], others), run[0], run[1]))
        return [RunRecord(method, seed, self.folder(method, seed), updates) for method, seed in runs]

    def check_folders(self) -> None:
        """Refuses a folder that holds a run of another config than the plan's.

        Raises:
            UserError: naming the folder and what differs.
        """
        for method, seed in self.runs:
            folder = self.folder(method, seed)
            # A run without a checkpoint is one that failed at its start: there is nothing to mix up.
            tree = read_json(folder / "config.json") if any(folder.glob("checkpoints/update-*")) else None
            changed = configs.differences(configs.from_dict(tree), self.config(method, seed)) if tree else []
            if changed:
                raise UserError(
                    f"'{folder}' holds a run of another config ({'; '.join(changed[:3])}): "
                    "move it away, or choose another workdir"
                )


def open_plan(workdir: Path, base: Config | None, methods: Sequence[str] = (), seeds: Sequence[int] = ()) -> Plan:
    """The plan in `workdir` with more runs added, or a new plan.  Writes nothing; `save_plan` does.

    Args:
        workdir: the study's folder.  Its `plan.json` has the study's base config; another one is refused.
        base: the config of every run; None for the one in `plan.json`.
        methods: to add, by the names that `name_of` gives.
        seeds: to add, for each of `methods`.

    Raises:
        UserError: there is no plan, it is of another config, or a setting contradicts a method.

    Example:
        >>> open_plan(tmp_path, Config(), ["maml", "maml++"], [0, 1]).runs
        (('maml', 0), ('maml++', 0), ('maml', 1), ('maml++', 1))
        >>> open_plan(tmp_path, None)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' holds no study: there is no plan.json; ...
    """
    if base is not None and base.learner.prototypes:
        raise UserError("learner.prototypes has no inner loop: the ablation is of MAML's")
    file = workdir / "plan.json"
    saved = read_json(file, "config", "runs")
    if saved is None and base is None:
        raise UserError(f"'{workdir}' holds no study: there is no plan.json; start one with --config and --methods")
    saved_base = configs.from_dict(saved["config"]) if saved else None
    if base is None:
        assert saved_base is not None
        base = saved_base
    # The modifications and the seed are set by the plan: the base gets the same ones always, to be comparable.
    base = Plan(workdir, base, ()).config("maml", 0)
    changed = configs.differences(saved_base, base) if saved_base else []
    if changed:
        raise UserError(
            f"workdir '{workdir}' holds a study of another config ({'; '.join(changed[:3])}): choose another workdir, "
            "or the study's own config to go on with it"
        )
    try:
        earlier = [(str(method), int(seed)) for method, seed in saved["runs"]] if saved else []
    except (TypeError, ValueError) as error:
        raise UserError(f"'{file}' is damaged: its runs are not pairs of a method and a seed") from error
    # All methods of a seed come before the next seed, so that an unfinished study has something to compare.
    added = [(method, seed) for seed in dict.fromkeys(seeds) for method in methods]
    plan = Plan(workdir, base, tuple(dict.fromkeys([*earlier, *added])))
    for method, seed in plan.runs:
        plan.config(method, seed)  # raises where the settings contradict the method
    plan.check_folders()
    return plan


def save_plan(plan: Plan) -> None:
    """Writes `plan.json` into the study's folder, whole or not at all.

    Example:
        >>> save_plan(open_plan(tmp_path, Config(), ["maml"], [0]))
        >>> open_plan(tmp_path, None, ["maml++"], [0]).runs
        (('maml', 0), ('maml++', 0))
    """
    tree = {"config": configs.to_dict(plan.base), "runs": [list(run) for run in plan.runs]}
    write_json(plan.workdir / "plan.json", tree)
