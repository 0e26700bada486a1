"""The one kind of error that a user can mend."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path


class UserError(ValueError):
    """A mistake of the user's, told in one line that names the thing and the mend."""

    status = 1


class WorkerLost(UserError):
    """Another machine's end, not a mistake: the same command goes on from the last checkpoint."""

    status = 75  # "try again" in the usual list of exit statuses


DIVERGED = (
    "the last checkpoint is kept. Lower learner.inner_rate or training.learning_rate, or set learner.gradient_clip, "
    "and use a new workdir"
)
"""How to mend a run whose numbers are no longer finite."""


def reason(error: BaseException) -> str:
    """What an error says, in one short line without TensorFlow's names of nodes."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\{\{.*?\}\} *| *\[Op:\w+\]", "", first)[:300]


@contextlib.contextmanager
def writing(folder: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Makes one clear error of a full disk or an unwritable folder.

    Args:
        folder: of the run, to be named.
        kinds: errors that say so, beside OSError.
    """
    caught: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except caught as error:
        raise UserError(
            f"cannot write in '{folder}': {reason(error)}; free some space or mend its permissions and run the same "
            "command again: what was saved before is whole"
        ) from error
