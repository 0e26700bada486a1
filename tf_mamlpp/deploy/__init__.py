"""Deployed models: a run's best epoch exported, loaded again, adapted to new classes."""
