"""The error about pictures or recordings that cannot be read.  Imports no TensorFlow."""

from __future__ import annotations

import errno

from tf_mamlpp.data.kinds import PICTURES, Kind
from tf_mamlpp.errors import UserError

MEND = "; replace or remove it"
"""The end of the error about an example."""

_NAMED = 20  # examples that an error names

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)


class DamagedPictures(UserError):
    """Pictures, or other examples, that cannot be read.

    Attributes:
        damage: what is wrong with each.

    Example:
        >>> str(DamagedPictures.of(["cat.png: cannot be read"]))
        'cat.png: cannot be read; replace or remove it, or leave it out with data.skip_damaged=true'
    """

    damage: list[str]

    @classmethod
    def of(cls, damage: list[str], kind: Kind = PICTURES) -> DamagedPictures:
        """The error about one or several examples."""
        if len(damage) == 1:
            text = f"{damage[0]}; replace or remove it, or leave it out with data.skip_damaged=true"
        else:
            more = f"; and {len(damage) - _NAMED} more" if len(damage) > _NAMED else ""
            text = (
                f"{len(damage)} {kind.examples} cannot be read: {'; '.join(damage[:_NAMED])}{more}. Replace or "
                "remove them, or leave them out with data.skip_damaged=true"
            )
        error = cls(text)
        error.damage = damage
        return error


def note_damage(damaged: dict[int, str] | None, row: int, error: UserError) -> None:
    """Notes that an example cannot be read, so that the others are tried too.

    Args:
        damaged: gets the row and what is wrong; None: it is an error.
        row: of the example.
        error: about it.

    Raises:
        UserError: there is no `damaged`, or the system is at fault, and not the example: one left out for that would be
            missing ever after.

    Example:
        >>> damaged = {}
        >>> note_damage(damaged, 3, UserError("cat.png: is empty; replace or remove it"))
        >>> damaged
        {3: 'cat.png: is empty'}
    """
    cause = error.__cause__
    if damaged is None or isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _PASSING):
        raise error
    damaged[row] = str(error).removesuffix(MEND)
