"""What the commands of `bin/` share: absl flags, config overrides, and errors in one line.  Imports no TensorFlow."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable

from absl import app, flags, logging

from tf_mamlpp.errors import UserError

FLAGS = flags.FLAGS


def run(main: Callable[[list[str]], None]) -> None:
    """Runs `main(config overrides)`; a user's mistake becomes one line on stderr and status 1 (75 where another worker
    has ended).

    So does what the system refuses: a file, or memory.  `--debug` shows the traceback instead.

    Args:
        main: the command; gets the arguments that begin with `--config.`.

    Raises:
        SystemExit: with the status of the command.

    Example: every file of `bin/` ends with it.
        >>> run.__name__
        'run'
    """
    flags.DEFINE_bool("debug", False, "Show the traceback of errors.")

    def parse(argv: list[str]) -> list[str]:
        try:
            return FLAGS(argv, known_only=True)
        except flags.Error as error:
            sys.exit(f"{argv[0]}: {error}")

    def guarded(argv: list[str]) -> None:
        warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
        logging.set_verbosity(logging.WARNING)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
        try:
            main(_overrides(argv[1:]))
        except (UserError, OSError, MemoryError) as error:
            if FLAGS.debug:
                raise
            text = f"out of memory {error}" if isinstance(error, MemoryError) else str(error)
            print("error: " + " ".join(text.split()), file=sys.stderr)
            sys.exit(getattr(error, "status", 1))
        except KeyboardInterrupt:
            sys.exit("interrupted")

    app.run(guarded, flags_parser=parse)


def _overrides(rest: list[str]) -> list[str]:
    for argument in rest:
        if not argument.startswith("--config."):
            raise UserError(f"unknown argument '{argument}'; --help lists the flags")
    return rest
