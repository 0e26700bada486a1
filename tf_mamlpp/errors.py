"""The one kind of error that a user can mend."""


class UserError(Exception):
    """A mistake of the user's, told in one line that names the thing and the mend."""
