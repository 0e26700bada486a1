"""A run's folder: its config, its lock, what may change."""

import dataclasses
import fcntl
import json

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Data, Learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import workdir


def test_a_folder_keeps_its_config(make_config, tmp_path):
    config = make_config()
    with workdir.claim_workdir(config, tmp_path / "a" / "b"):
        assert workdir.read_config(tmp_path / "a" / "b") == config
    (tmp_path / "a" / "b" / "checkpoints").mkdir()
    (tmp_path / "a" / "b" / "checkpoints" / "update-2.index").write_text("")
    with pytest.raises(UserError, match="seed: 0, 1"), workdir.claim_workdir(make_config(seed=1), tmp_path / "a" / "b"):
        pass
    assert workdir.read_config(tmp_path / "a" / "b") == config


def test_where_a_run_computes_may_change(make_config, tmp_path):
    with workdir.claim_workdir(make_config(), tmp_path):
        pass
    moved = make_config(
        data=Data(way=3, image_size=(8, 8), path="/elsewhere", cache_dir="/cache"),
        learner=Learner(inner_steps=2, parallel_tasks=1),
    )
    with workdir.claim_workdir(moved, tmp_path):
        assert workdir.read_config(tmp_path) == moved


def test_one_run_at_a_time(make_config, tmp_path):
    with workdir.claim_workdir(make_config(), tmp_path):
        with pytest.raises(UserError, match="in use by another run"), workdir.claim_workdir(make_config(), tmp_path):
            pass
        with open(tmp_path / ".lock") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with workdir.claim_workdir(make_config(), tmp_path):
        pass


def test_read_config_errors(make_config, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        workdir.read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match="is damaged"):
        workdir.read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**configs.to_dict(make_config()), "sed": 1}))
    with pytest.raises(UserError, match="'sed'"):
        workdir.read_config(tmp_path)


def test_a_config_of_before_a_key_was_there_has_its_default(make_config, tmp_path):
    tree = configs.to_dict(make_config())
    assert tree["data"].pop("split_fractions") == [0.6, 0.2, 0.2]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    assert workdir.read_config(tmp_path) == make_config()


def test_more_epochs_of_annealing_need_their_number(with_epochs, sinusoid, tmp_path):
    config = with_epochs(sinusoid, 2, cosine_annealing=True)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "update-2.index").touch()
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(config)))
    for wrong in ({}, {"annealing": 3}, {"annealing": 1}):
        message = "anneals over 2 epochs: go on with --config.training.annealing_epochs=2, .* learner.minimum_rate; or"
        with pytest.raises(UserError, match=message):
            with workdir.claim_workdir(with_epochs(config, 4, **wrong), tmp_path):
                pass
    assert workdir.read_config(tmp_path) == config
    for same in (
        with_epochs(config, 2, annealing=2),
        with_epochs(config, 4, annealing=2),
        with_epochs(config, 5, annealing=2),
    ):
        with workdir.claim_workdir(same, tmp_path):
            assert workdir.read_config(tmp_path) == same
    with pytest.raises(UserError, match="seed: 0, 1"):
        with workdir.claim_workdir(dataclasses.replace(with_epochs(config, 6, annealing=2), seed=1), tmp_path):
            pass
