"""The plan of a study."""

import dataclasses
import json

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config, Learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import MODIFICATIONS, presets
from tf_mamlpp.study.plan import Plan, open_plan, save_plan


def test_a_run_differs_from_the_base_in_its_modifications_and_seed_alone(tmp_path):
    base = Config(learner=Learner(inner_steps=3, inner_rate=0.2, multi_step_loss=True, adapted="head"))
    plan = Plan(tmp_path, base, ())
    chosen = plan.config("maml+learned_rates", 7)
    assert (chosen.seed, chosen.learner.inner_steps, chosen.learner.adapted) == (7, 3, "head")
    assert [m for m in MODIFICATIONS if getattr(chosen.learner, m)] == ["learned_rates"]
    full = Plan(tmp_path, Config(), ()).config("maml++", 0)
    assert full == Config(learner=Learner(**presets["maml++"]))
    assert full.method == "maml++"


def test_seeds_come_before_methods_and_runs_are_added(tmp_path):
    plan = open_plan(tmp_path, Config(), ["maml", "maml++"], [0, 1])
    assert plan.runs == (("maml", 0), ("maml++", 0), ("maml", 1), ("maml++", 1))
    save_plan(plan)
    assert open_plan(tmp_path, None) == plan
    more = open_plan(tmp_path, Config(), ["maml++-learned_rates", "maml"], [0])
    assert more.runs == (*plan.runs, ("maml++-learned_rates", 0))
    assert [r.method for r in more.records()] == ["maml", "maml", "maml++", "maml++", "maml++-learned_rates"]
    custom = open_plan(tmp_path, Config(), ["maml+multi_step_loss+learned_rates"], [0])
    assert [r.method for r in custom.records()][2:] == ["maml+multi_step_loss+learned_rates", "maml++", "maml++"]
    assert {r.updates for r in more.records()} == {5000}


def test_a_study_has_one_config(tmp_path):
    save_plan(open_plan(tmp_path, Config(), ["maml"], [0]))
    other = dataclasses.replace(Config(), learner=Learner(inner_rate=0.2))
    with pytest.raises(UserError, match="study of another config .learner.inner_rate: 0.1, 0.2"):
        open_plan(tmp_path, other, ["maml"], [0])
    # What the plan sets itself, and where it runs, may differ.
    moved = dataclasses.replace(configs.override(Config(), ["--config.data.path=/elsewhere"]), seed=5)
    moved = dataclasses.replace(moved, learner=Learner(**presets["maml++"]))
    assert open_plan(tmp_path, moved, ["maml"], [0]).base.data.path == "/elsewhere"


def test_a_folder_that_holds_another_run_is_refused(tmp_path):
    plan = open_plan(tmp_path, Config(), ["maml"], [0])
    folder = plan.folder("maml", 0)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(configs.to_dict(plan.config("maml++", 0))))
    open_plan(tmp_path, Config(), ["maml"], [0])  # no checkpoint: a mistake, no run
    (folder / "checkpoints" / "update-5.index").touch()
    with pytest.raises(UserError, match="holds a run of another config"):
        open_plan(tmp_path, Config(), ["maml"], [0])
    (folder / "config.json").write_text(json.dumps(configs.to_dict(plan.config("maml", 0))))
    open_plan(tmp_path, Config(), ["maml"], [0])


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"first_order": True}, "learner.first_order and .* contradict"),
        ({"prototypes": True}, "prototypes has no inner loop"),
    ],
)
def test_settings_that_contradict_a_method(tmp_path, learner, message):
    with pytest.raises(UserError, match=message):
        open_plan(tmp_path, Config(learner=Learner(**learner)), ["maml", "maml++"], [0])


def test_no_study_there(tmp_path):
    with pytest.raises(UserError, match="holds no study"):
        open_plan(tmp_path, None)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match="plan.json' is damaged"):
        open_plan(tmp_path, None)
