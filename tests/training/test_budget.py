"""How many epochs fit into a time."""

import dataclasses
from pathlib import Path

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config, Evaluation, Pretrain, Training
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import Learner, presets
from tf_mamlpp.training import budget, train

TESTING = str(Path(__file__).parents[2] / "configs" / "testing.py")
SMALL = [
    *("--config.training.updates=2", "--config.training.tasks=2", "--config.model.filters=2"),
    *("--config.evaluation.validation_tasks=4", "--config.evaluation.test_tasks=4"),
]


@pytest.mark.slow
def test_the_time_is_shared_out(monkeypatch):
    """Ten epochs: two of the multi-step loss in first order, three without it, five of second order."""
    config = Config(
        learner=Learner(**presets["maml++"], multi_step_loss_epochs=2, second_order_from_epoch=5),
        training=Training(epochs=10, updates=100),
        evaluation=Evaluation(validation_tasks=48, test_tasks=96, ensemble=3),
        pretrain=Pretrain(epochs=2, batch=1116),
    )
    seconds = iter([0.5, 0.1, 1.0, 6.0, 0.25])  # of an update of each phase, 24 tasks, an update of pretraining
    monkeypatch.setattr(budget, "_call_seconds", lambda *args: next(seconds))
    once, per_epoch = budget._seconds(config)
    assert per_epoch == pytest.approx(100 * (0.2 * 0.5 + 0.3 * 0.1 + 0.5 * 1.0) + 12)
    assert once == pytest.approx(4 * 24 + 2 * (10 * 0.25 + 12))  # three members and the best alone; 11,160 pictures


@pytest.mark.slow
def test_a_run_keeps_its_number_of_epochs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(budget, "_seconds", lambda config: (60.0, 30.0))
    chosen = budget.within(2.6, f"{TESTING}:way=3", SMALL, tmp_path)
    assert (chosen.training.epochs, chosen.data.way, chosen.evaluation.ensemble) == (3, 3, 2)
    assert "2.6 minutes: 3 epochs, about 30 s each, and 60 s for the rest; the run keeps" in capsys.readouterr().out
    train.train_and_evaluate(chosen, tmp_path)
    monkeypatch.setattr(budget, "_seconds", lambda config: pytest.fail("measured again"))
    assert budget.within(9, f"{TESTING}:way=3", SMALL, tmp_path) == chosen


@pytest.mark.slow
def test_it_measures(tmp_path, capsys):
    chosen = budget.within(0.001, TESTING, SMALL, tmp_path)
    assert chosen == dataclasses.replace(configs.load(f"{TESTING}:epochs=1", SMALL))
    assert "0.001 minutes: 1 epochs" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("minutes=none", "config key 'minutes' is a float; 'none' is not one"),
        ("minutes=0", "minutes is 0: it must be positive"),
        ("minutes=inf", "config key 'minutes' must be finite"),
        ("epochs=3,minutes=5", "minutes and epochs contradict each other"),
    ],
)
def test_minutes_that_mean_nothing(argument, message):
    with pytest.raises(UserError, match=message):
        configs.take_minutes(f"{TESTING}:{argument}")
    assert configs.take_minutes(f"{TESTING}:way=3,epochs=2") == (f"{TESTING}:way=3,epochs=2", None)
    assert configs.take_minutes(f"{TESTING}:minutes=7") == (f"{TESTING}:", 7.0)
