"""A copy of a user's model, so that the user's own is not trained in place."""

from __future__ import annotations

import random

import keras

from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.layers.conversion import copied_layer, copy_trainable


def copied(model: keras.Model) -> keras.Model:
    """A model of the same layers, names and numbers; where Keras cannot copy it, one that borrows its code.

    Keras copies what has a config: Sequential and functional models, and subclassed ones with `get_config`.

    Args:
        model: built.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)], name="net")
        >>> twin = copied(model)
        >>> twin is model, twin.name, bool((twin.weights[0].numpy() == model.weights[0].numpy()).all())
        (False, 'net', True)
    """
    before = random.getstate()  # Keras draws the seeds of initial weights from it: a copy shall not change what follows
    try:
        twin = _of_config(model)
        _copy_state(model, twin)
    except Exception:  # whatever a user's own `get_config` and `from_config` raise
        return BorrowedModel(model, inner_steps=1)
    finally:
        random.setstate(before)
    return twin


def _of_config(model: keras.Model) -> keras.Model:
    if isinstance(model, keras.Sequential) or hasattr(model, "operations"):
        return keras.models.clone_model(model, clone_function=copied_layer, recursive=True)
    twin = type(model).from_config(model.get_config())
    with keras.name_scope(twin.name):
        twin.build_from_config(model.get_build_config())
    return twin


def _copy_state(model: keras.Model, twin: keras.Model) -> None:
    """Variables, and what a layer makes of them when it is loaded (`Normalization`)."""
    for old, new in zip(model.variables, twin.variables, strict=True):
        if (old.name, old.shape, old.dtype) != (new.name, new.shape, new.dtype):
            raise ValueError("the config does not tell all")
        new.assign(old.value)
        new._path = old.path  # a layer that was not named is numbered anew in a copy
    for layer in twin._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    copy_trainable(model, twin)
