"""What a learner needs of a model, and of Keras, beside weights to learn."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError

_SEVERAL = (
    "model '{}' has {} outputs, and a learner takes one: give it keras.Model(model.inputs, model.outputs[0]), or join "
    "them in one layer"
)


def check_backend() -> None:
    """Refuses another backend of Keras than TensorFlow.

    Raises:
        UserError: naming the backend.

    Example:
        >>> check_backend()
    """
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise UserError(f"Keras's backend is {backend}, and tf_mamlpp needs tensorflow: set KERAS_BACKEND=tensorflow")


def check_built(model: keras.Model) -> None:
    """Refuses a model that has no weights to learn.

    Raises:
        UserError: naming the model.

    Example:
        >>> check_built(keras.Sequential([keras.layers.Dense(2)], name="unbuilt"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'unbuilt' has no weights yet: give it an Input, or call it once on a batch
    """
    if not model.built or not model.weights:
        raise UserError(f"model '{model.name}' has no weights yet: give it an Input, or call it once on a batch")
    if not model.trainable_variables:
        raise UserError(f"model '{model.name}' is frozen: there is nothing to learn")


def check_width(model: keras.Model, width: int | None, way: int | None) -> None:
    """Refuses a model whose outputs are not one a class.

    Args:
        model: to be named.
        width: of its outputs, as far as it is known.
        way: classes of a task; None where the outputs are no classes.

    Raises:
        UserError: naming the model and both numbers.

    Example:
        >>> check_width(keras.Sequential(name="net"), 10, 5)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net' has 10 outputs for 5-way tasks: make its last layer 5 wide
    """
    if way and width != way:
        raise UserError(f"model '{model.name}' has {width} outputs for {way}-way tasks: make its last layer {way} wide")


def check_one_output(model: keras.Model) -> None:
    """Refuses a model of several outputs, as far as it declares them.

    Raises:
        UserError: naming the model and how many it has.

    Example:
        >>> inputs = keras.Input((4,))
        >>> two = [keras.layers.Dense(3)(inputs), keras.layers.Dense(1)(inputs)]
        >>> check_one_output(keras.Model(inputs, two, name="net"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net' has 2 outputs, and a learner takes one: give it ...
    """
    count = len(_outputs(model))
    if count > 1:
        raise UserError(_SEVERAL.format(model.name, count))


def _outputs(model: keras.Model) -> list[keras.KerasTensor]:
    if getattr(model, "outputs", None):
        return model.outputs
    shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)) or not all(n is None or isinstance(n, int) for n in shape):
        return []
    try:
        outputs = model.compute_output_spec(keras.KerasTensor([None, *shape[1:]], model.compute_dtype))
    except Exception:  # it takes another dtype than it computes in, or more than one argument
        return []
    return keras.tree.flatten(outputs)


def only_output(model: keras.Model, outputs: Any) -> tf.Tensor:
    """What a model gave, out of a list or dict of one.

    Args:
        model: to be named.
        outputs: of a call.

    Raises:
        UserError: there are several.

    Example:
        >>> only_output(keras.Sequential(name="net"), {"logits": tf.zeros((1, 5))}).shape
        TensorShape([1, 5])
    """
    found = keras.tree.flatten(outputs)
    if len(found) != 1:
        raise UserError(_SEVERAL.format(model.name, len(found)))
    return found[0]


def declared_inputs(model: keras.Model) -> Any:
    """What a model takes, any number at once: `tf.TensorSpec`s in its own structure; None where it does not say.

    Example:
        >>> declared_inputs(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
        TensorSpec(shape=(None, 4), dtype=tf.float32, name=None)
    """
    if not getattr(model, "inputs", None):
        return None
    return keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), input_structure(model))


def input_structure(model: keras.Model) -> Any:
    """The inputs of a Sequential or functional model as it takes them: one alone, without the list that holds it.

    Example:
        >>> input_structure(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])).shape
        (None, 4)
    """
    structure = getattr(model, "_inputs_struct", model.inputs)
    return structure[0] if isinstance(structure, list | tuple) and len(structure) == 1 else structure


def check_one_dtype(model: keras.Model) -> None:
    """Refuses weights of several types, which one table of rates and one loss cannot serve.

    Raises:
        UserError: naming one weight of each type.

    Example:
        >>> layers = [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2, dtype="float64")]
        >>> check_one_dtype(keras.Sequential(layers, name="net"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net' has weights of float32 ('net/dense.../kernel') and float64 (...): ...
    """
    first = {v.dtype: v.path for v in reversed(model.trainable_variables)}
    if len(first) > 1:
        told = " and ".join(f"{dtype} ('{path}')" for dtype, path in sorted(first.items()))
        raise UserError(f"model '{model.name}' has weights of {told}: give all its layers one dtype")
