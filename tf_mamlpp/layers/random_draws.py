"""Refuses random numbers of a layer of the user's own that would be others than a learner takes them for."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.traced_operations import traced_operations, with_inner

_DRAW = re.compile("Random|Normal|Uniform|Multinomial|Sampler|Rng|NonDeterministic")
"""In the types of all operations that draw random numbers."""

_GLOBAL_SEED_GENERATOR = "global_seed_generator"  # Keras's name, for which 3.8 has no constant


class _NoSeedGenerator:
    """In place of the generator that `keras.random` takes where it is given none."""

    def __init__(self, model: str):
        self.model = model

    def next(self, ordered: bool = True) -> Any:
        raise UserError(
            f"model '{self.model}': layer '{_calling_layer()}' draws from keras.random without a seed generator, which "
            "would give every update the same numbers: make a self.seed = keras.random.SeedGenerator() in the layer's "
            "__init__, and draw with seed=self.seed"
        )


def _calling_layer() -> str:
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        layer = frame.f_locals.get("self")
        if frame.f_code.co_name == "call" and isinstance(layer, keras.layers.Layer):
            return layer.name
    return "?"


@contextlib.contextmanager
def seeded_draws_only(model: str) -> Iterator[None]:
    """Refuses what is drawn inside from `keras.random` without a seed.

    Keras then has one generator for all, whose state is no variable of the model: what a pass changes in it is lost.

    Args:
        model: its name.

    Raises:
        UserError: naming the layer.

    Example:
        >>> with seeded_draws_only("net"):
        ...     keras.random.normal((2,), seed=keras.random.SeedGenerator(1)).shape
        TensorShape([2])
        >>> with seeded_draws_only("net"):
        ...     keras.layers.Lambda(lambda x: x + keras.random.normal((2,)), name="noise").call(tf.zeros(2))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net': layer 'noise' draws from keras.random without a seed generator, ...
    """
    before = global_state.get_global_attribute(_GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(_GLOBAL_SEED_GENERATOR, _NoSeedGenerator(model))
    try:
        yield
    finally:
        global_state.set_global_attribute(_GLOBAL_SEED_GENERATOR, before)


@contextlib.contextmanager
def repeatable_draws_only(model: str) -> Iterator[None]:
    """Refuses operations traced inside that would draw other numbers if they ran again; eagerly it does nothing.

    Args:
        model: its name.

    Raises:
        UserError: at the end, naming the operation.

    Example:
        >>> @tf.function(autograph=False)
        ... def noise():
        ...     with repeatable_draws_only("net"):
        ...         return tf.random.normal((2,), name="noise")
        >>> noise()
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: rematerialise computes each step twice, and operation ...
    """
    with traced_operations() as made:
        yield
    for operation in made:
        for inner in with_inner(operation):
            if _draws_others_again(inner):
                raise UserError(
                    f"rematerialise computes each step twice, and operation '{inner.name}' of model '{model}' draws "
                    "other random numbers the second time: draw with keras.random and a keras.random.SeedGenerator, or "
                    "turn rematerialise off"
                )


def _draws_others_again(operation: tf.Operation) -> bool:
    if not operation.op_def.is_stateful or operation.type.startswith("Stateless"):
        return False  # its numbers are those of the seed that it is given
    return _DRAW.search(operation.type) is not None
