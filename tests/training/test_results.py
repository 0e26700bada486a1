"""Results of a finished run, and its evaluation again.  Whole runs: tests/cli."""

import json

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Data, Evaluation, Learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import results, train


@pytest.mark.parametrize(
    ("settings", "permutations", "message"),
    [
        ({}, 0, "learner.label_permutations is 0: it must be positive"),
        ({}, -1, "learner.label_permutations is -1: it must be positive"),
        ({}, 4, "learner.label_permutations is 4: it must be 1 to the way"),
        ({"learner": Learner(head="shared")}, 2, "learner.label_permutations has no use with head=shared"),
        (
            {"learner": Learner(prototypes=True)},
            2,
            "learner.prototypes .* label_permutations has no use",
        ),
        ({"data": Data(name="sinusoid")}, 2, "learner.label_permutations needs classes"),
    ],
)
def test_label_permutations_that_do_not_go_with_a_run(make_config, tmp_path, settings, permutations, message):
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(make_config(**settings))))
    with pytest.raises(UserError, match=message):
        results.evaluate_run(tmp_path, [None], label_permutations=permutations)


@pytest.mark.slow
def test_damaged_pictures_are_counted_in_the_results(
    picture_tree, folder_config, evaluate, pool, tmp_path, monkeypatch
):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = picture_tree(tmp_path / "pets", pool)
    (root / "c00" / "0.png").write_bytes(b"")
    (root / "c01" / "3.png").write_bytes(b"")
    with pytest.raises(UserError, match="2 pictures cannot be read"):
        train.train_and_evaluate(folder_config(root), tmp_path / "run")
    with pytest.warns(UserWarning, match="left out 2 damaged pictures"):
        found = train.train_and_evaluate(folder_config(root, skip_damaged=True), tmp_path / "run")
    assert found["damaged_pictures"] == 2
    assert json.loads((tmp_path / "run" / "results.json").read_text())["damaged_pictures"] == 2
    with pytest.warns(UserWarning, match="left out 2 damaged pictures"):
        assert evaluate(root, tmp_path / "run") == found["accuracy"]


def test_results_of_other_runs_have_no_such_count(trained):
    assert "damaged_pictures" not in trained[2]


def test_other_tasks_than_trained_for(make_config, tmp_path):
    config = make_config(learner=Learner(head="prototypes", inner_steps=1), evaluation=Evaluation(test_tasks=4))
    trained = train.train_and_evaluate(config, tmp_path / "run")
    own, other = (
        results.evaluate_run(tmp_path / "run", [None], task=task)[0]
        for task in ({}, {"way": 7, "shot": 2, "query_shot": 1})
    )
    assert own["accuracy"] == trained["accuracy"]
    assert (other["way"], other["shot"], other["query_shot"], other["tasks"]) == (7, 2, 1, 4)
    assert other["accuracy_per_inner_step"] != own["accuracy_per_inner_step"]


def test_a_learned_head_has_its_number_of_classes(make_config, tmp_path):
    config = make_config(learner=Learner(inner_steps=1))
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(config)))
    way = config.data.way
    with pytest.raises(UserError, match=f"way is {way + 1}, and the run in .* learned a head for {way} classes"):
        results.evaluate_run(tmp_path, [None], task={"way": way + 1})


def test_a_run_tells_how_far_it_can_be_believed(trained):
    _, workdir, found = trained
    assert json.loads((workdir / "results.json").read_text())["confidence"] == found["confidence"]
    assert found["confidence"]["temperature"] > 0 and (workdir / "reliability.png").exists()
