"""The ablation as a plan: methods × seeds of one config, each a run in a folder of its own.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.records.run_record import RunRecord, read_json
from tf_mamlpp.study.method_names import GROUPS, modifications_of


@dataclass(frozen=True)
class Plan:
    """What a study's folder is to hold.

    Attributes:
        workdir: gets `plan.json`, a folder `METHOD/seed-N` for each run, and the report.
        base: the config of every run, but for the six modifications and the seed.
        runs: (method, seed), in the order in which they are run.
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
        learner = dataclasses.replace(self.base.learner, **switches)
        return dataclasses.replace(self.base, learner=learner, seed=seed)

    def folder(self, method: str, seed: int) -> Path:
        return self.workdir / method / f"seed-{seed}"

    def records(self) -> list[RunRecord]:
        """What the runs have left so far; a method's seeds beside each other, methods in the order of `all`."""
        updates = self.base.training.epochs * self.base.training.updates
        order = {name: float(i) for i, name in enumerate(GROUPS["all"])}
        others = order["maml++"] - 0.5  # sets that no group has, before the full one
        runs = sorted(self.runs, key=lambda run: (order.get(run[0], others), run[0], run[1]))
        return [RunRecord(method, seed, self.folder(method, seed), updates) for method, seed in runs]

    def check_folders(self) -> None:
        """Refuses a folder that holds a run of another config than the plan's."""
        for method, seed in self.runs:
            folder = self.folder(method, seed)
            # Without a checkpoint it holds a mistake, no run.
            tree = read_json(folder / "config.json") if any(folder.glob("checkpoints/update-*")) else None
            changed = configs.differences(configs.from_dict(tree), self.config(method, seed)) if tree else []
            if changed:
                raise UserError(
                    f"'{folder}' holds a run of another config ({'; '.join(changed[:3])}): "
                    "move it away, or choose another workdir"
                )


def open_plan(workdir: Path, base: Config | None, methods: Sequence[str] = (), seeds: Sequence[int] = ()) -> Plan:
    """The plan in `workdir`, with these runs added; made if there is none.

    Args:
        workdir: remembers the base config in `plan.json`: a study never mixes two.
        base: None to take the one that is there.

    Raises:
        UserError: there is no plan, it is of another config, or a setting contradicts a method.
    """
    if base is not None and base.learner.prototypes:
        raise UserError("learner.prototypes has no inner loop: the ablation is of MAML's")
    file = workdir / "plan.json"
    found = read_json(file, "config", "runs")
    if found is None and base is None:
        raise UserError(f"'{workdir}' holds no study: there is no plan.json; start one with --config and --methods")
    there = configs.from_dict(found["config"]) if found else None
    if base is None:
        assert there is not None
        base = there
    # What the plan itself sets is no part of the base.
    base = Plan(workdir, base, ()).config("maml", 0)
    changed = configs.differences(there, base) if there else []
    if changed:
        raise UserError(
            f"workdir '{workdir}' holds a study of another config ({'; '.join(changed[:3])}): choose another workdir, "
            "or the study's own config to go on with it"
        )
    try:
        earlier = [(str(method), int(seed)) for method, seed in found["runs"]] if found else []
    except (TypeError, ValueError) as error:
        raise UserError(f"'{file}' is damaged: its runs are not pairs of a method and a seed") from error
    # A seed of every method before the next seed: an unfinished study compares something.
    wanted = [(method, seed) for seed in dict.fromkeys(seeds) for method in methods]
    plan = Plan(workdir, base, tuple(dict.fromkeys([*earlier, *wanted])))
    for method, seed in plan.runs:
        plan.config(method, seed)
    plan.check_folders()
    return plan


def save_plan(plan: Plan) -> None:
    """Writes `plan.json`, whole or not at all."""
    tree = {"config": configs.to_dict(plan.base), "runs": [list(run) for run in plan.runs]}
    write_json(plan.workdir / "plan.json", tree)
