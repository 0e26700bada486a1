"""Backbones as plain Keras models.

Stock layers only: `MetaLearner` turns the batch norms into per-step ones, as it does for any user's model.
"""
