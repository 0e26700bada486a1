"""The flags of one command, absl's, and their help.  Imports no TensorFlow."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import absl.flags


class Flags:
    """absl's `DEFINE_string`, `DEFINE_integer` and so on, for flags that only one command has.

    Example:
        >>> flags = Flags()
        >>> way = flags.DEFINE_integer("way", 5, "Classes a task.", lower_bound=2)
        >>> flags.parse(["--way=20", "--config.seed=1"])
        ['--config.seed=1']
        >>> way.value
        20
    """

    def __init__(self) -> None:
        self._values = absl.flags.FlagValues()
        self.debug = self.DEFINE_bool("debug", False, "Show the traceback of errors.")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("DEFINE_"):
            raise AttributeError(f"flags have no attribute '{name}'")
        return partial(getattr(absl.flags, name), flag_values=self._values)

    def __getitem__(self, name: str) -> absl.flags.Flag:
        return self._values[name]

    def parse(self, arguments: Sequence[str]) -> list[str]:
        """Gives the flags their values; those of an earlier call are forgotten.

        Args:
            arguments: of the command line, without the command.

        Returns:
            The arguments that are none of the flags.

        Raises:
            absl.flags.Error: a flag is missing or has a value of another kind.
        """
        self._values.unparse_flags()
        return self._values(["", *arguments], known_only=True)[1:]

    def help(self) -> str:
        """Every flag with what it says and its default; `--debug`, which all commands have, is the last."""
        flags = [self._values[name] for name in self._values]
        return "\n".join(map(_described, [*(f for f in flags if f.name != "debug"), self._values["debug"]]))


def _described(flag: absl.flags.Flag) -> str:
    shown = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}=..."
    default = f" Default: {flag.default_as_str}.".replace("'", "") if flag.default else ""
    indent = " " * 6
    return f"{shown}\n{textwrap.fill(f'{flag.help}{default}', 100, initial_indent=indent, subsequent_indent=indent)}"
