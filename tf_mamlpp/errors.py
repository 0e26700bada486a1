"""The one kind of error that a user can mend.  Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path


class UserError(ValueError):
    """A mistake of the user's, told in one line that names the thing and the mend.

    A ValueError too, so that code which does not know this package can catch it.

    Attributes:
        status: that a command exits with.

    Example:
        >>> isinstance(UserError("way is 1: a task needs at least 2 classes"), ValueError)
        True
    """

    status = 1
    # Autograph makes a new error of each that passes through it: of this type only if it has Exception's constructor.
    __init__ = Exception.__init__


class WorkerLost(UserError):
    """Another machine's end, not a mistake: the same command goes on from the last checkpoint.

    Example:
        >>> WorkerLost.status
        75
    """

    status = 75  # "try again" in the usual list of exit statuses


class Diverged(UserError):
    """The end of a run whose numbers are no longer finite, with how to mend it.

    Args:
        what: is not finite, and since when.

    Example:
        >>> raise Diverged("the loss is nan at update 10")
        Traceback (most recent call last):
        tf_mamlpp.errors.Diverged: the loss is nan at update 10; the last checkpoint is kept. Lower ...
    """

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; the last checkpoint is kept. Lower learner.inner_rate or training.learning_rate, or "
            "set learner.gradient_clip, and use a new workdir"
        )


def reason(error: BaseException) -> str:
    """What an error says, in one short line without TensorFlow's names of nodes.

    Example:
        >>> reason(RuntimeError("{{node Add}} shapes differ [Op:Add]\\nmore"))
        'shapes differ'
    """
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\{\{.*?\}\} *| *\[Op:\w+\]", "", first)[:300]


@contextlib.contextmanager
def writing(folder: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Makes one clear error of a full disk or an unwritable folder.

    Args:
        folder: of the run, to be named.
        kinds: errors that say so, beside OSError.

    Raises:
        UserError: in place of these.

    Example:
        >>> from pathlib import Path
        >>> with writing(Path("runs/one")):
        ...     raise OSError("no space left on device")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: cannot write in 'runs/one': no space left on device; free some space or ...
    """
    caught: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except caught as error:
        raise UserError(
            f"cannot write in '{folder}': {reason(error)}; free some space or mend its permissions and run the same "
            "command again: what was saved before is whole"
        ) from error
