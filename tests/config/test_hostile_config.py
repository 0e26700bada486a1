"""Configs of any text and any JSON: a config, or one UserError of one line."""

import dataclasses
import json
import math

import pytest
from hypothesis import strategies as st

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.errors import UserError
from tf_mamlpp.records.run_files import read_json

KEYS = [
    f"{section.name}.{key.name}"
    for section in dataclasses.fields(Config)
    if section.name != "seed"
    for key in dataclasses.fields(getattr(Config(), section.name))
] + ["seed"]
ODD = ["", "0", "-0", "-1", "1e999", "nan", "inf", "9" * 4000, "9" * 5000, "1_0", "٣", "none", "()", "1,2", "(" * 5000]
ODD += ["\0", "\ud800", "True", "1e-400", "0x10", "a{99999999999}", "[", "conv4", "keras:", "a:b", "84,84", "1,,2"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, 2**31]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def a_config_or_one_error(make):
    """Whatever `make` returns is sound and survives JSON."""
    try:
        config = make()
    except UserError as error:
        assert str(error).strip()
        return
    assert isinstance(config, Config)
    tree = json.loads(json.dumps(configs.to_dict(config), allow_nan=False))
    assert configs.from_dict(tree) == config
    numbers = [v for section in tree.values() if isinstance(section, dict) for v in section.values()]
    assert all(math.isfinite(v) for v in numbers if isinstance(v, int | float))


def test_overrides(fuzz):
    def check(overrides):
        flags = [f"--config.{key}={value}" for key, value in overrides]
        a_config_or_one_error(lambda: configs.override(Config(), flags))

    value = st.sampled_from(ODD) | st.text(max_size=12) | st.floats().map(str) | st.integers().map(str)
    fuzz(check, 150, overrides=st.lists(st.tuples(st.sampled_from(KEYS), value), min_size=1, max_size=3))


def test_flags_of_any_text(fuzz):
    def check(flag):
        with pytest.raises(UserError):
            configs.override(Config(), [flag])

    names = st.text(alphabet="configdata.way=_-\0 ", max_size=30)
    fuzz(check, 60, flag=names | names.map(lambda name: f"--config.{name}x=1"))


@pytest.mark.parametrize(
    "file", ["quickstart", "omniglot", "image_folder", "mini_imagenet", "benchmark", "sinusoid", "testing"]
)
def test_arguments_of_the_config_files(fuzz, file):
    def check(argument):
        a_config_or_one_error(lambda: configs.load(f"configs/{file}.py:{argument}"))

    value = st.sampled_from([*ODD, "maml++", "anil", "protonet"]) | st.text(max_size=6)
    item = st.tuples(st.sampled_from(["way", "shot", "method", "epochs", "seed", "size", "x"]), value).map("=".join)
    fuzz(check, 40, argument=st.lists(item, max_size=3).map(",".join) | st.text(max_size=20))


def test_trees_read_back(fuzz):
    """One value of a sound tree is replaced by any other, at any depth."""

    def check(path, value):
        tree = configs.to_dict(Config())
        *sections, key = path.split(".")
        node = tree[sections[0]] if sections else tree
        node[key] = value
        a_config_or_one_error(lambda: configs.from_dict(tree))

    paths = st.sampled_from([*KEYS, "data", "learner", "x", "data.x", "seed"])
    fuzz(check, 150, path=paths, value=VALUES)


def test_any_tree(fuzz):
    fuzz(lambda tree: a_config_or_one_error(lambda: configs.from_dict(tree)), 60, tree=VALUES)


def test_a_config_json_of_any_bytes(fuzz, tmp_path):
    file = tmp_path / "config.json"
    whole = json.dumps(configs.to_dict(Config())).encode()

    def check(place, content):
        file.write_bytes(whole[:place] + content + whole[place + len(content) :])
        a_config_or_one_error(lambda: configs.from_dict(read_json(file)))

    fuzz(check, 80, place=st.integers(0, len(whole)), content=st.binary(min_size=1, max_size=3))


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b"1", b"null", b'{"seed": ' + b"9" * 5000 + b"}"])
def test_a_config_json_that_is_none(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="config.json' is damaged"):
        read_json(tmp_path / "config.json")


def test_files_that_are_no_config(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "binary.py").write_bytes(bytes(range(256)))
    for name in ("config.json", "folder.py", "binary.py", "x" * 5000, "\0", ""):
        with pytest.raises(UserError, match="not found|cannot be read"):
            configs.load(str(tmp_path / name) if name else "")
