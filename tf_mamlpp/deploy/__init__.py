"""A trained learner away from its training: exported, loaded again, taught new classes."""
