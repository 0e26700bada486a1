"""Configs by name, and by path."""

from pathlib import Path

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import catalogue
from tf_mamlpp.errors import UserError

ROOT = Path(__file__).parents[2]


def test_every_config_has_its_name():
    assert catalogue.names() == sorted(file.stem for file in (ROOT / "configs").glob("*.py"))


def test_a_name_is_its_file():
    assert configs.load("omniglot:way=20") == configs.load(f"{ROOT / 'configs' / 'omniglot.py'}:way=20")


def test_a_path_that_is_no_file_and_a_file_that_is_no_python(tmp_path):
    with pytest.raises(UserError, match=r"^config file 'no\.py' not found: .* one of .*, omniglot, .*, testing$"):
        configs.load("no.py")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json' cannot be read: the name of a Python file ends in .py$"):
        configs.load(str(tmp_path / "config.json"))
