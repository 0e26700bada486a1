"""A damaged checkpoint is told or passed over; it never restores other numbers, and reading changes nothing."""

import json
import math

import keras
import pytest
from hypothesis import strategies as st

from tf_mamlpp import MetaLearner
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def learner():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    learner = MetaLearner(model, way=2, inner_steps=1, first_order=True)
    learner.compile(keras.optimizers.Adam(1e-3))
    return learner


@pytest.fixture
def checkpoints(fill, learner, tmp_path):
    """Of updates 6 and 12, both the latest and among the best; every variable holds its update's number."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", learner, keep_best=3)
    for update in (6, 12):
        fill(learner, update)
        checkpoints.save_best(update, update // 6, update / 100)
        checkpoints.save(update, 1.0)
    return checkpoints


def snapshot(folder):
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


@pytest.fixture
def restores_no_other_numbers(fill, all_equal, checkpoints, learner):
    """Restores with a file damaged: what is found is right or told, and nothing in the folder changes."""

    def check(file, damage):
        whole = file.read_bytes()
        file.write_bytes(damage(whole))
        before = snapshot(checkpoints.folder)
        try:
            fill(learner, 1)
            assert all_equal(learner, checkpoints.restore_latest())
            fill(learner, 1)
            checkpoints.restore_best()
            assert all_equal(learner, 12, best=True)
        except UserError as error:
            assert "best-12' cannot be read" in str(error)
        assert snapshot(checkpoints.folder) == before
        file.write_bytes(whole)

    return check


def test_no_flipped_bit_restores_other_numbers(fuzz, flips, checkpoints, restores_no_other_numbers, capfd):
    """TensorFlow keeps a checksum of every tensor and of every block of the index."""
    files = sorted(checkpoints.folder.glob("*-12.*"))
    assert len(files) == 4

    fuzz(restores_no_other_numbers, 15, file=st.sampled_from(files), damage=flips)


def test_no_cut_file_restores_other_numbers(fuzz, checkpoints, restores_no_other_numbers, capfd):
    """Cut short, or with zeros in place of the end, as file systems leave files after a power cut."""
    files = sorted(checkpoints.folder.glob("*-12.*"))

    def check(file, place, padded):
        def cut(whole):
            kept = whole[: place % len(whole)]
            return kept.ljust(len(whole), b"\0") if padded else kept

        restores_no_other_numbers(file, cut)

    fuzz(check, 15, file=st.sampled_from(files), place=st.integers(0, 10**6), padded=st.booleans())


@pytest.mark.parametrize("kind", ["update", "best"])
@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001", "*"])
def test_files_that_changed_places(checkpoints, learner, kind, ending, capfd):
    for one in checkpoints.folder.glob(f"{kind}-6{ending}"):
        other = one.with_name(one.name.replace("-6.", "-12."))
        spare = one.rename(one.with_name("spare"))
        other.rename(one)
        spare.rename(other)
    with pytest.raises(UserError, match="no checkpoint in .* can be read" if kind == "update" else "cannot be read"):
        checkpoints.restore_latest() if kind == "update" else checkpoints.restore_best()


def test_a_best_epoch_of_a_list_without_checksums(all_equal, checkpoints, learner):
    """Lists were written without, before."""
    file = checkpoints.folder / "best.json"
    file.write_text(json.dumps([{k: v for k, v in e.items() if k != "index_crc32"} for e in checkpoints.best]))
    checkpoints.restore_best()
    assert all_equal(learner, 12, best=True)


def test_a_lost_list_deletes_no_checkpoint(checkpoints):
    (checkpoints.folder / "best.json").unlink()
    before = snapshot(checkpoints.folder)
    for use in (lambda: checkpoints.forget_best_after(12), lambda: checkpoints.save_best(18, 3, 1.0)):
        with pytest.raises(UserError, match="best.json' is missing; put it back, or delete"):
            use()
        assert snapshot(checkpoints.folder) == before


def test_a_damaged_list(fuzz, flips, all_equal, checkpoints, learner):
    file = checkpoints.folder / "best.json"
    whole = file.read_bytes()
    others = ["[" * 100_000, "9" * 5000, "1e999", "null", '[{"update": 6, "epoch": "1", "score": 1}]']
    others += ['[{"update": 6, "epoch": 1, "score": NaN}]', '[{"update": 1e400, "epoch": 1, "score": 0.1}]', "\udcff"]

    def check(content):
        file.write_bytes(content)
        before = snapshot(checkpoints.folder)
        try:
            for rank, entry in enumerate(checkpoints.best):
                assert type(entry["update"]) is int and math.isfinite(entry["score"])
                checkpoints.restore_best(rank)
                assert all_equal(learner, entry["update"], best=True)
        except UserError as error:
            assert str(checkpoints.folder) in str(error)
        assert snapshot(checkpoints.folder) == before

    content = st.sampled_from([o.encode(errors="surrogateescape") for o in others])
    fuzz(check, 30, content=flips.map(lambda flip: flip(whole)) | content)
