"""`tf-mamlpp COMMAND ...`: the list of commands, their help, and errors in one line.  Imports no TensorFlow."""

from __future__ import annotations

import difflib
import importlib
import io
import re
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

import absl.flags
from absl import app, logging

from tf_mamlpp.errors import UserError

COMMANDS = {
    "train": "meta-train a model, or go on with a run",
    "evaluate": "test a run again, otherwise or on other data",
    "export": "write a run as a model that needs neither Keras nor this package",
    "adapt": "teach an exported or pretrained model classes of your own, and classify",
    "demo": "teach a model by hand, on a page in the browser",
    "ablate": "train a study of methods and seeds, and write its report",
    "benchmark": "time meta-updates or an exported model on this machine",
}
"""What `tf-mamlpp` lists; each is the module of its name."""


def main() -> None:
    """`tf-mamlpp`: the command that the first argument names, or the list of commands.

    Raises:
        SystemExit: with the status of the command.

    Example:
        >>> sys.argv = ["tf-mamlpp", "trian"]
        >>> main()
        Traceback (most recent call last):
        SystemExit: tf-mamlpp: there is no command 'trian'; did you mean train? `tf-mamlpp --help` lists them
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        run(name, arguments)
    elif name in ("-h", "--help", "help"):
        print(overview())
    else:
        near = "".join(f" did you mean {n}?" for n in difflib.get_close_matches(name, COMMANDS, 1))
        sys.exit(f"tf-mamlpp: there is no command '{name}';{near} `tf-mamlpp --help` lists them")


def overview() -> str:
    """The commands with a line each.

    Example:
        >>> print(overview().splitlines()[0])
        usage: tf-mamlpp COMMAND --flag=value ...
    """
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    first = "  tf-mamlpp train --config=quickstart --workdir=runs/quickstart"
    return "\n".join(
        ["usage: tf-mamlpp COMMAND --flag=value ...", "", *lines, "", "`tf-mamlpp COMMAND --help` lists its flags."]
        + ["A first run, without any data (three minutes):", "", first]
    )


def run(name: str, arguments: Sequence[str] | None = None) -> None:
    """Runs one command; a user's mistake becomes one line on stderr and status 1 (75 where another worker has ended).

    So does what the system refuses: a file, or memory.  `--debug` shows the traceback instead.

    Args:
        name: one of `COMMANDS`.
        arguments: its flags; those of the process by default.

    Raises:
        SystemExit: with the status of the command.

    Example:
        >>> run("train", ["--config=no.py", "--workdir=run"])  # doctest: +SKIP
        error: config file 'no.py' not found: ...
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = importlib.import_module(f"tf_mamlpp.commands.{name}")
    if {"-h", "--help"} & set(arguments):
        print(f"{command.__doc__}\n{command.flags.help()}")
        return
    try:
        overrides = command.flags.parse(arguments)
    except absl.flags.Error as error:
        sys.exit(f"tf-mamlpp {name}: {_in_one_line(error)}; --help lists the flags")
    app.run(lambda _: _guarded(command, overrides), argv=[f"tf-mamlpp {name}"])


def _guarded(command: ModuleType, overrides: list[str]) -> None:
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    logging.set_verbosity(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        command.main(_checked(overrides))
    except (UserError, OSError, MemoryError) as error:
        if command.flags.debug.value:
            raise
        text = f"out of memory {error}" if isinstance(error, MemoryError) else str(error)
        print("error: " + " ".join(text.split()), file=sys.stderr)
        sys.exit(getattr(error, "status", 1))
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _in_one_line(error: absl.flags.Error) -> str:
    missing = re.sub(r"flag --(\w+)=None: Flag .*", r"--\1 is missing", str(error))
    return "; ".join(line.rstrip(".") for line in missing.splitlines())


def _checked(rest: list[str]) -> list[str]:
    for argument in rest:
        if not argument.startswith("--config."):
            raise UserError(f"unknown argument '{argument}'; --help lists the flags")
    return rest
