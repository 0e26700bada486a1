"""Checkpoints: what is saved comes back; what is damaged is passed over, and says so."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp import MetaLearner
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.checkpoints import Checkpoints


def make_learner():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(3)])
    learner = MetaLearner(model, way=3, inner_steps=2, learned_rates=True, first_order=True)
    learner.compile(keras.optimizers.Adam(1e-3))
    return learner


@pytest.fixture
def learner():
    return make_learner()


@pytest.fixture
def saved(fill, learner, tmp_path):
    """Checkpoints after updates 10, 20 and 30, every variable holding the number of its update."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", learner, keep_best=2)
    for update in (10, 20, 30):
        fill(learner, update)
        checkpoints.save(update, update / 4)
    return checkpoints


def reopened(checkpoints):
    learner = make_learner()
    return Checkpoints(checkpoints.folder, learner, checkpoints.keep_best), learner


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 0x10
    file.write_bytes(b"" if how == "emptied" else bytes(content[: len(content) // 2 if how == "truncated" else None]))
    if how == "missing":
        file.unlink()


def test_everything_comes_back(all_equal, saved):
    checkpoints, learner = reopened(saved)
    assert checkpoints.restore_latest() == 30
    assert float(checkpoints.seconds) == 7.5
    assert all_equal(learner, 30)


def test_nothing_there(learner, tmp_path):
    before = [v.numpy() for v in learner.variables]
    assert Checkpoints(tmp_path / "none", learner).restore_latest() == 0
    for a, v in zip(before, learner.variables, strict=True):
        np.testing.assert_array_equal(a, v.numpy())
    assert not (tmp_path / "none").exists()


def test_the_latest_two_are_kept(saved):
    names = {file.name.partition(".")[0] for file in saved.folder.glob("update-*")}
    assert names == {"update-20", "update-30"}


def test_files_of_other_numbers_cost_no_good_checkpoint(fill, saved, capfd):
    for name in ("update-900.index", "update-901.index", "update-².index"):
        (saved.folder / name).touch()
    checkpoints, learner = reopened(saved)
    assert checkpoints.restore_latest() == 30
    fill(learner, 40)
    checkpoints.save(40, 10)
    names = {file.name.split(".")[0] for file in saved.folder.glob("update-*")}
    assert names == {"update-30", "update-40"}
    assert reopened(saved)[0].restore_latest() == 40
    assert capfd.readouterr().err.count("trying the one before") == 2


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "missing"])
def test_a_damaged_latest_gives_way_to_the_one_before(fill, all_equal, saved, capfd, ending, how):
    damage(saved.folder / f"update-30.{ending}", how)
    checkpoints, learner = reopened(saved)
    assert checkpoints.restore_latest() == 20
    assert all_equal(learner, 20)
    (line,) = capfd.readouterr().err.splitlines()
    assert "update-30' cannot be read" in line
    assert "trying the one before" in line
    fill(learner, 31)
    checkpoints.save(30, 1.0)
    checkpoints, learner = reopened(saved)
    assert checkpoints.restore_latest() == 30
    assert all_equal(learner, 31)


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "missing"])
def test_all_damaged_is_one_clear_error(saved, ending, how):
    for update in (20, 30):
        damage(saved.folder / f"update-{update}.{ending}", how)
    with pytest.raises(UserError, match="no checkpoint in .* can be read"):
        reopened(saved)[0].restore_latest()


@pytest.mark.parametrize("content", [None, "", "garbage"])
def test_a_lost_list_of_checkpoints_never_restarts_a_run_in_silence(saved, content):
    file = saved.folder / "checkpoint"
    if content is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(content)
    try:
        checkpoints, _ = reopened(saved)
        assert checkpoints.restore_latest() == 30
    except UserError as error:
        assert str(saved.folder) in str(error)


def test_a_checkpoint_that_cannot_be_written(saved, monkeypatch):
    def full(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(UserError, match="No space left on device.*what was saved before is whole"):
        saved.save(40, 1.0)


def test_the_best_epochs_are_kept_in_order(fill, saved, learner):
    for update, epoch, score in ((6, 0, 0.5), (12, 1, 0.7), (18, 2, 0.6), (24, 3, 0.7), (30, 4, 0.1)):
        fill(learner, update)
        saved.save_best(update, epoch, score)
    assert [e["update"] for e in saved.best] == [12, 24]  # the earlier of a tie first
    assert saved.best[0].items() >= {"update": 12, "epoch": 1, "score": 0.7}.items()
    kept = {file.name.partition(".")[0] for file in saved.folder.glob("best-*")}
    assert kept == {"best-12", "best-24"}
    checkpoints, restored = reopened(saved)
    for rank, update in enumerate((12, 24)):
        checkpoints.restore_best(rank)
        assert all((v.numpy() == update).all() for v in restored.variables if "seed" not in v.path)


def test_an_epoch_done_again_replaces_itself(saved):
    saved.save_best(6, 0, 0.5)
    saved.save_best(12, 1, 0.4)
    saved.save_best(12, 1, 0.6)
    assert [(e["update"], e["score"]) for e in saved.best] == [(12, 0.6), (6, 0.5)]


def test_epochs_to_come_are_forgotten_with_whatever_a_kill_left(saved):
    saved.save_best(6, 0, 0.5)
    saved.save_best(12, 1, 0.6)
    # TensorFlow writes into such a folder first.
    (saved.folder / "best-18_temp").mkdir()
    (saved.folder / "best-18_temp" / "part-00000-of-00001.index").write_text("")
    (saved.folder / "best-18.index").write_text("")
    saved.forget_best_after(6)
    assert [e["update"] for e in saved.best] == [6]
    kept = {file.name.partition(".")[0] for file in saved.folder.glob("best-*")}
    assert kept == {"best-6"} or kept == {"best-6", "best-18_temp"}


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_a_damaged_best_epoch_is_named(saved, how):
    saved.save_best(6, 0, 0.5)
    damage(saved.folder / "best-6.data-00000-of-00001", how)
    with pytest.raises(UserError, match="best-6' cannot be read"):
        reopened(saved)[0].restore_best()


@pytest.mark.parametrize("content", ['[{"upd', "", "{}", "[1]"])
def test_a_damaged_list_of_the_best(saved, content):
    (saved.folder / "best.json").write_text(content)
    with pytest.raises(UserError, match="best.json' is damaged"):
        _ = saved.best


ODD = ("a [1]", "[ab]", "*", "r*", "what?", "back\\slash", "ünï 漢字 %s {x}", "-a", os.fsdecode(b"latin-\xe9"))


@pytest.mark.parametrize("name", ODD)
def test_any_folder_name_will_do_and_none_is_a_pattern(fill, all_equal, learner, tmp_path, name):
    """Beside it lies a folder that the pattern would match too."""
    for number, folder in ((1, "a"), (2, "run"), (5, name)):
        checkpoints = Checkpoints(tmp_path / folder / "checkpoints", learner)
        fill(learner, number)
        checkpoints.save(10, 1.0)
        checkpoints.save_best(10, 0, 0.5)
    again, restored = reopened(checkpoints)
    assert again.restore_latest() == 10
    assert all_equal(restored, 5)
    fill(restored, 0)
    again.restore_best(0)
    assert all((v.numpy() == 5).all() for v in restored.variables if "seed" not in v.path)


# --- Reading from a run that goes on ---------------------------------------------------------------------


def meanwhile(monkeypatch, checkpoints, happens):
    """Lets something happen once, after the reader has chosen a checkpoint and before it reads it."""
    read = checkpoints._read

    def late(*args):
        monkeypatch.undo()
        happens()
        read(*args)

    monkeypatch.setattr(checkpoints, "_read", late)


@pytest.fixture
def save_best(fill):
    """Keeps an epoch whose variables hold its update's number: save_best(checkpoints, learner, 6, score=0.5)."""

    def save(checkpoints, learner, update, score):
        fill(learner, update)
        checkpoints.save_best(update, update // 6, score)

    return save


def test_a_best_epoch_that_is_replaced_while_it_is_read(save_best, saved, learner, monkeypatch):
    save_best(saved, learner, 6, 0.5)
    save_best(saved, learner, 12, 0.6)
    reader, restored = reopened(saved)

    def better():
        for update, score in ((18, 0.7), (24, 0.8)):
            save_best(saved, learner, update, score)

    meanwhile(monkeypatch, reader, better)
    assert reader.restore_best(0)["update"] == 24  # best-12 is gone
    assert all((v.numpy() == 24).all() for v in restored.variables if "seed" not in v.path)


def test_members_are_of_one_moment(save_best, saved, learner, monkeypatch):
    save_best(saved, learner, 6, 0.5)
    save_best(saved, learner, 12, 0.6)
    reader, restored = reopened(saved)
    meanwhile(monkeypatch, reader, lambda: [save_best(saved, learner, u, u / 20) for u in (14, 16)])
    members = reader.best_members(5)
    save_best(saved, learner, 18, 0.9)
    save_best(saved, learner, 24, 1.0)
    found = []
    for load in members:
        load()
        found.append({float(np.ravel(v.numpy())[0]) for v in restored.variables if "seed" not in v.path})
    assert found == [{16.0}, {14.0}]


def test_a_latest_checkpoint_that_is_replaced_while_it_is_read(fill, all_equal, saved, learner, monkeypatch, capfd):
    reader, restored = reopened(saved)

    def go_on():
        for update in (40, 50):
            fill(learner, update)
            saved.save(update, 1.0)

    meanwhile(monkeypatch, reader, go_on)
    assert reader.restore_latest() == 50  # 20 and 30 are gone
    assert all_equal(restored, 50)
    assert capfd.readouterr().err == ""
