"""Keras layers that know the inner step, or whose second derivatives are exact."""
