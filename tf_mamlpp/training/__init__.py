"""A run from config to results."""
