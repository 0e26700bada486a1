"""The one kind of error that a user can mend."""


class UserError(Exception):
    """A mistake of the user's, told in one line that names the thing and the mend."""


DIVERGED = (
    "the last checkpoint is kept. Lower learner.inner_rate or training.learning_rate, or set learner.gradient_clip, "
    "and use a new workdir"
)
"""How to mend a run whose numbers are no longer finite."""
