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
from tf_mamlpp.methods import MODIFICATIONS
from tf_mamlpp.run_record import RunRecord, read_json
from tf_mamlpp.workdir import write_json

# --- Methods by name ------------------------------------------------------------------------------------


def name_of(modifications: frozenset[str]) -> str:
    """`maml+a+b` for up to three of the six modifications, `maml++-a` for what is missing of more."""
    if len(modifications) <= len(MODIFICATIONS) // 2:
        return "+".join(["maml", *(m for m in MODIFICATIONS if m in modifications)])
    return "-".join(["maml++", *(m for m in MODIFICATIONS if m not in modifications)])


def modifications_of(name: str) -> frozenset[str]:
    """The inverse of `name_of`, for any order and number of modifications.

    Raises:
        UserError: an unknown name.
    """
    removed = name.startswith("maml++")
    base, sign = ("maml++", "-") if removed else ("maml", "+")
    rest = name.removeprefix(base)
    parts = rest.split(sign)[1:]
    if not name.startswith(base) or rest != "".join(sign + part for part in parts) or set(parts) - set(MODIFICATIONS):
        raise UserError(
            f"unknown method '{name}': it is maml or maml++, maml+NAME+..., maml++-NAME-..., or one of the groups "
            f"{', '.join(GROUPS)}; a NAME is one of {', '.join(MODIFICATIONS)}"
        )
    return frozenset(MODIFICATIONS) - set(parts) if removed else frozenset(parts)


_BATCH_NORM = frozenset({"per_step_statistics", "per_step_weights"})
_ALONE = [*(name_of(frozenset({m})) for m in MODIFICATIONS), name_of(_BATCH_NORM)]
_WITHOUT = [name_of(frozenset(MODIFICATIONS) - {m}) for m in MODIFICATIONS]
GROUPS = {
    "core": ["maml", "maml++"],
    "alone": ["maml", *_ALONE],
    "without": ["maml++", *_WITHOUT],
    "all": ["maml", *_ALONE, "maml++", *_WITHOUT],
}
"""`--methods` by one word: both ends; MAML, and with each modification alone or both of batch norm; MAML++, and without
each; all of those."""


def parse_methods(names: Sequence[str]) -> list[str]:
    """Names and groups as the names of methods, each once, as `name_of` writes them."""
    found = [name_of(modifications_of(m)) for name in names for m in GROUPS.get(name, [name])]
    return list(dict.fromkeys(found))


# --- The plan -------------------------------------------------------------------------------------------


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
