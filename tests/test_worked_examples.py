"""The examples of docs/beyond_pictures.md: their data are made, their networks are built, and they learn."""

import re
from pathlib import Path

import numpy as np
import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.data import load_banks, nearest_pixel_accuracy
from tf_mamlpp.training.build import make_model
from tf_mamlpp.training.train import train_and_evaluate

PAGE = (Path(__file__).parents[1] / "docs/beyond_pictures.md").read_text()
CODE = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
SENSORS, INTENTS = re.findall(r"train --config=(arrays:\S+) ((?:--config\S+ )+)--workdir", PAGE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the files of the page, in which commands are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in CODE.items():
        (tmp_path / name).write_text(code)
        if name.startswith("make_"):
            exec(code, {})
    return tmp_path


def config_of(example, *overrides):
    """The config of a command of the page."""
    config, flags = example
    return configs.load(config, [*flags.split(), *overrides])


def nearest(banks, d):
    return nearest_pixel_accuracy(
        banks["test"], way=d.way, shot=d.shot, query_shot=d.query_shot, tasks=50, seed=0, split="test"
    )[0]


def test_sensors_are_hundreds_of_classes_that_drift_too_far_for_neighbours(folder):
    d = config_of(SENSORS).data
    banks = load_banks(d.name, d.path)
    assert [len(bank.class_names) for bank in banks.values()] == [240, 80, 80]
    assert banks["test"].shape == (64, 3) and nearest(banks, d) < 0.35
    assert make_model(config_of(SENSORS), banks["train"].inputs).output_shape == (None, 5)


def test_intents_are_rows_of_words_that_share_little(folder):
    d = config_of(INTENTS).data
    banks = load_banks(d.name, d.path)
    assert sum(len(bank.class_names) for bank in banks.values()) == 30 and banks["test"].dtype == np.int32
    assert d.shot == 5 and nearest(banks, d) < 0.5
    model = make_model(config_of(INTENTS), banks["train"].inputs)
    assert model.input.dtype == "int32" and "embedding" not in model.trainable_variables[0].path


@pytest.mark.slow
@pytest.mark.parametrize("example, least", [(SENSORS, 0.5), (INTENTS, 0.6)], ids=["sensors", "intents"])
def test_a_short_run_learns_what_neighbours_do_not_tell(folder, example, least):
    short = ["training.epochs=2", "training.updates=60", "training.tasks=4", "evaluation.test_tasks=60"]
    config = config_of(example, *(f"--config.{setting}" for setting in (*short, "evaluation.ensemble=1")))
    found = train_and_evaluate(config, folder / "run")
    assert found["accuracy"] > max(least, found["nearest_example"]["accuracy"] + 0.1)
