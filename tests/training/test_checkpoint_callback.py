"""When checkpoints are saved, and what a signal does."""

import os
import signal

import pytest
import tensorflow as tf

from tf_mamlpp.training.checkpoint_callback import Interrupted


def test_saves_every_so_often_and_with_each_epoch(make_saver):
    saver, checkpoints = make_saver()
    for epoch in range(2):
        for batch in range(5):
            saver.on_train_batch_end(batch)
        saver.on_epoch_end(epoch, {"val_accuracy": epoch / 10})
    assert checkpoints.saved == [2, 4, 5, 6, 8, 9, 10]  # 9: one update is done again if the validation is broken off
    assert checkpoints.best == [(5, 0, 0.0), (10, 1, 0.1)]


def test_errors_are_better_when_smaller(make_saver):
    saver, checkpoints = make_saver(minimise=True)
    saver.on_epoch_end(0, {"val_accuracy": 0.3})
    assert checkpoints.best == [(0, 0, -0.3)]


def test_time_goes_on_where_it_stopped(make_saver):
    saver, _ = make_saver()
    assert 100 <= saver.seconds < 110


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_waits_for_the_update_and_its_checkpoint(make_saver, number, status, capsys):
    saver, checkpoints = make_saver(start=10)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as end, saver.signals():
        os.kill(os.getpid(), number)
        assert checkpoints.saved == []
        saver.on_train_batch_end(0)
    assert end.value.code == status
    assert checkpoints.saved == [11]
    assert "saved update 11" in capsys.readouterr().out
    assert signal.getsignal(number) == before


def test_a_signal_in_validation_ends_it(make_saver, capsys):
    saver, checkpoints = make_saver(start=3, every=100)
    with pytest.raises(Interrupted) as end, saver.signals():
        saver.on_train_batch_end(3)
        saver.on_train_batch_end(4)
        saver.on_test_batch_end(0)
        os.kill(os.getpid(), signal.SIGTERM)
        saver.on_test_batch_end(1)
    assert end.value.code == 143
    assert checkpoints.saved == [4]
    assert checkpoints.best == []
    assert "ended during validation; the same command resumes at update 4" in capsys.readouterr().out


def test_a_signal_after_validation_ends_the_run_with_the_epoch_s_result(make_saver):
    saver, checkpoints = make_saver(start=4)
    with pytest.raises(Interrupted), saver.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        saver.on_train_batch_end(4)
        saver.on_epoch_end(0, {"val_accuracy": 0.5})
    assert checkpoints.saved == [5]
    assert checkpoints.best == [(5, 0, 0.5)]


def test_a_signal_to_another_worker_ends_this_one_too(make_saver, capsys):
    told = []
    saver, checkpoints = make_saver(any_worker=lambda flag: bool(told.append(flag)) or len(told) == 3)
    with pytest.raises(Interrupted) as end, saver.signals():
        for batch in range(5):
            saver.on_train_batch_end(batch)
    assert told == [False] * 3
    assert end.value.code == 143
    assert checkpoints.saved == [2, 3]
    assert "saved update 3" in capsys.readouterr().out


def test_a_second_signal_does_not_wait(make_saver):
    saver, checkpoints = make_saver()
    with pytest.raises(Interrupted), saver.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert checkpoints.saved == []


@pytest.mark.parametrize(("start", "kept"), [(3, True), (5, False)])
def test_the_metrics_of_a_broken_epoch_go_on(make_saver, make_learner, start, kept):
    learner, (saver, _) = make_learner(), make_saver(start=start)
    saver.set_model(learner)
    for v in learner.metrics_variables:
        v.assign(tf.ones_like(v) * 7)
    saver.on_train_begin()
    learner.reset_metrics()
    saver.on_epoch_begin(0)
    assert [float(v) for v in learner.metrics_variables] == [7.0 * kept] * len(learner.metrics_variables)
