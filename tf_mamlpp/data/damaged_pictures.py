"""The error about pictures that cannot be read.  Imports no TensorFlow."""

from __future__ import annotations

from tf_mamlpp.errors import UserError

_NAMED = 20  # pictures that an error names


class DamagedPictures(UserError):
    """Pictures that cannot be read.

    Attributes:
        damage: what is wrong with each.

    Example:
        >>> str(DamagedPictures.of(["cat.png: cannot be read"]))
        'cat.png: cannot be read; replace or remove it, or leave it out with data.skip_damaged=true'
    """

    damage: list[str]

    @classmethod
    def of(cls, damage: list[str]) -> DamagedPictures:
        """The error about one or several pictures."""
        if len(damage) == 1:
            text = f"{damage[0]}; replace or remove it, or leave it out with data.skip_damaged=true"
        else:
            more = f"; and {len(damage) - _NAMED} more" if len(damage) > _NAMED else ""
            text = (
                f"{len(damage)} pictures cannot be read: {'; '.join(damage[:_NAMED])}{more}. Replace or "
                "remove them, or leave them out with data.skip_damaged=true"
            )
        error = cls(text)
        error.damage = damage
        return error
