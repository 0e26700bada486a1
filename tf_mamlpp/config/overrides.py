"""A config from a file, arguments, flags and JSON, and back.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from tf_mamlpp.checks import check_type
from tf_mamlpp.config.catalogue import file_of
from tf_mamlpp.config.schema import MACHINE_KEYS, Config, prefixed
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import Learner, renamed


def load(flag: str, overrides: Sequence[str] = ()) -> Config:
    r"""The config of `--config=CONFIG[:key=value,...]` with `--config.a.b=value` flags applied.

    Args:
        flag: the name of a config that comes with the package, or a Python file with a function
            `get_config(argument)`; after a colon its argument.
        overrides: flags such as `--config.training.epochs=3`.

    Raises:
        UserError: the file is missing or is no config, a key is unknown, or a value has the wrong type.

    Example:
        >>> file = tmp_path / "mine.py"
        >>> _ = file.write_text('''
        ... from tf_mamlpp.config import Config, Data
        ... def get_config(argument):
        ...     return Config(data=Data(way=int(argument)))
        ... ''')
        >>> config = load(f"{file}:10", ["--config.training.epochs=3"])
        >>> config.data.way, config.training.epochs
        (10, 3)
    """
    name, _, argument = flag.partition(":")
    file = file_of(name)
    spec = importlib.util.spec_from_file_location("tf_mamlpp_config", file)
    if not spec or not spec.loader:
        raise UserError(f"config file '{file}' cannot be read: the name of a Python file ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"config file '{file}' cannot be read: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"config file '{file}' has no function get_config(arg)")
    try:
        config = module.get_config(argument)
    except UserError:
        raise
    except Exception as error:
        unknown = "unexpected keyword argument" in str(error)
        what = "has an unknown config key" if unknown else "fails in get_config"
        raise UserError(f"config file '{file}' {what}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"get_config of '{file}' returns {type(config).__name__}, not a tf_mamlpp.config.Config")
    return override(config, overrides)


def take_minutes(flag: str) -> tuple[str, float | None]:
    """Takes `minutes=` out of a config's argument: it plans the epochs, which the config is then made with.

    Args:
        flag: `CONFIG[:key=value,...]`.

    Returns:
        The flag without it, and the minutes; None where there are none.

    Raises:
        UserError: they are no positive number, or `epochs=` is given too.

    Example:
        >>> take_minutes("omniglot:way=5,minutes=30")
        ('omniglot:way=5', 30.0)
    """
    file, colon, argument = flag.partition(":")
    items = argument.split(",")
    found = [item.partition("=")[2] for item in items if item.startswith("minutes=")]
    if not found:
        return flag, None
    minutes = parse("minutes", found[-1], float)
    if minutes <= 0:
        raise UserError(f"minutes is {found[-1]}: it must be positive")
    if any(item.startswith("epochs=") for item in items):
        raise UserError("minutes and epochs contradict each other: minutes plans the epochs")
    return file + colon + ",".join(item for item in items if not item.startswith("minutes=")), minutes


def override(config: Config, flags: Sequence[str]) -> Config:
    """Applies `--config.a.b=value` flags.

    Raises:
        UserError: an unknown key, a value of another type, or settings that do not go together.

    Example:
        >>> override(Config(), ["--config.data.image_size=84,84"]).data.image_size
        (84, 84)
    """
    tree = to_dict(config)
    kind: Any
    for flag in flags:
        name, equals, text = flag.removeprefix("--config.").partition("=")
        if not flag.startswith("--config.") or not equals:
            raise UserError(f"'{flag}' is not a flag of this command; a config override is --config.section.key=value")
        *sections, key = name.split(".")
        node, kind = tree, Config
        for section in sections:
            kind = typing.get_type_hints(kind).get(section) if dataclasses.is_dataclass(kind) else None
            node = node.get(section, {}) if isinstance(node, dict) else {}
        hints = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
        if key not in hints or dataclasses.is_dataclass(hints[key]):
            raise UserError(f"unknown config key '{name}'; {_known(kind, sections)}")
        node[key] = parse(name, text, hints[key])
    return from_dict(tree)


def _known(kind: Any, sections: Sequence[str]) -> str:
    if not dataclasses.is_dataclass(kind):
        return "keys are " + ", ".join(f.name for f in dataclasses.fields(Config))
    place = ".".join(sections) or "the config"
    return f"{place} has " + ", ".join(f.name for f in dataclasses.fields(kind))


def parse(name: str, text: str, kind: Any) -> Any:
    """A text as a value of a type.

    Args:
        name: of the setting, for the error.
        text: what a person wrote.
        kind: bool, int, float, str, a tuple of those, or one of those and None.

    Raises:
        UserError: the text is no such value.

    Example:
        >>> parse("gradient_clip", "10", float | None), parse("gradient_clip", "none", float | None)
        (10.0, None)
    """
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if types.NoneType in options and text.lower() in ("none", "null", ""):
        return None
    kind = next(option for option in options if option is not types.NoneType)
    try:
        if typing.get_origin(kind) is tuple:
            item = typing.get_args(kind)[0]
            return tuple(item(part) for part in text.strip("()[] ").split(",") if part.strip())
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        value = kind(text)
    except (KeyError, ValueError):  # also of a number of thousands of digits
        shown = kind.__name__ if isinstance(kind, type) else kind
        raise UserError(f"config key '{name}' is a {shown}; '{text}' is not one") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config key '{name}' must be finite, not {text}")
    return value


def parse_argument(argument: str, **defaults: Any) -> types.SimpleNamespace:
    """The `key=value,...` of `--config=CONFIG:key=value,...`, typed like `defaults`.

    Raises:
        UserError: a key that has no default, or a value of another type.

    Example:
        >>> parse_argument("way=20,method=maml", way=5, shot=1, method="maml++")
        namespace(way=20, shot=1, method='maml')
    """
    values = dict(defaults)
    for item in filter(None, argument.split(",")):
        key, equals, text = item.partition("=")
        if key not in defaults or not equals:
            raise UserError(
                f"unknown config argument '{item}'; this config takes {', '.join(f'{k}=' for k in defaults)}"
            )
        values[key] = parse(key, text, type(defaults[key]))
    return types.SimpleNamespace(**values)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dicts of JSON types.

    Example:
        >>> to_dict(Config())["data"]["image_size"]
        [28, 28]
    """
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(tree: Mapping[str, Any], kind: Any = Config, prefix: str = "") -> Any:
    """The inverse of `to_dict`; what is left out has its default.

    Args:
        tree: nested dicts of JSON types.
        kind: the dataclass to make, `Config` or one of its sections.
        prefix: of the keys in errors, such as `data.`.

    Raises:
        UserError: an unknown key, a value of another type, or settings that do not go together.

    Example:
        >>> from_dict({"data": {"way": 20}}).data.way
        20
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"config key '{prefix[:-1]}' is a section, {tree!r} is not one")
    hints = typing.get_type_hints(kind)
    tree = renamed(tree) if kind is Learner else tree
    values = {}
    for key, value in tree.items():
        name = prefix + key
        if key not in hints:
            raise UserError(f"unknown config key '{name}'; {_known(kind, prefix.split('.')[:-1])}")
        hint = hints[key]
        values[key] = (
            from_dict(value, hint, name + ".") if dataclasses.is_dataclass(hint) else check_type(name, value, hint)
        )
    with prefixed(prefix):
        return kind(**values)


def differences(a: Config, b: Config) -> list[str]:
    """What differs, `key: a's value, b's value`, but for `MACHINE_KEYS`.

    Example:
        >>> differences(Config(), Config(seed=1))
        ['seed: 0, 1']
    """

    def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(tree, dict):
            return {prefix[:-1]: tree}
        return {k: v for key, sub in tree.items() for k, v in flat(sub, f"{prefix}{key}.").items()}

    left, right = flat(to_dict(a)), flat(to_dict(b))
    return [f"{k}: {left[k]}, {right[k]}" for k in left if left[k] != right[k] and k not in MACHINE_KEYS]
