"""Stub."""
from tf_mamlpp.errors import UserError


def tfds_splits(*a):
    raise UserError("glyphs: to come")
