"""A self-check: a model's meta-gradient against finite differences, and the layer at fault if they disagree.

Some layers hide operations whose second derivatives are wrong (`tf.nn.moments` is one).  First-order training never
shows it; MAML would train on a wrong meta-gradient in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.borrowed_model import training_argument
from tf_mamlpp.layers.conversion import copied_layer, copy_trainable
from tf_mamlpp.layers.step_context import inner_step
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.second_derivatives import DIFFERENCE_STEPS, second_derivative_error
from tf_mamlpp.meta.task_data import as_tasks


def check_meta_gradient(
    model: keras.Model, tasks: Mapping[str, Any], *, tolerance: float = 1e-5, seed: int = 0, **settings: Any
) -> dict[str, float]:
    """Compares the meta-gradient of `MetaLearner(model, **settings)` with central differences, in float64.

    For each trainable variable, the derivative of the outer loss along one random direction.

    Args:
        model: Sequential or functional (a float64 copy is made), or any model built in float64.
        tasks: a small meta-batch, as `MetaLearner` takes it; two tasks are enough.
        tolerance: the largest deviation allowed, relative to the gradient's length.
        seed: of the directions.
        **settings: of `MetaLearner`.

    Returns:
        The deviation for each variable's path.

    Raises:
        UserError: the meta-gradient is wrong; names the layers whose second derivatives are.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(2)])
        >>> task = {"support_images": np.eye(2)[None], "support_labels": np.array([[0, 1]])}
        >>> task |= {"query_images": 1 - np.eye(2)[None], "query_labels": np.array([[1, 0]])}
        >>> deviations = check_meta_gradient(model, task, way=2, inner_steps=1)
        >>> max(deviations.values()) < 1e-5
        True
    """
    learner = MetaLearner(in_float64(model), **settings)
    annealed = learner.settings.derivative_order_annealing
    learner.set_epoch(learner.settings.second_order_from_epoch if annealed else 0)
    if learner.settings.first_order:
        raise UserError("first-order meta-gradients are not the loss's gradient: nothing to check them against")
    batch = tf.nest.map_structure(_finest, dict(as_tasks(tasks)))
    compute = tf.function(learner.meta_gradient)
    gradients = compute(batch)[0]
    generator = np.random.default_rng(seed)
    scale = max(float(tf.norm(g)) for g in gradients)
    deviations = {}
    for variable, gradient in zip(learner.trainable_variables, gradients, strict=True):
        direction = generator.normal(size=variable.shape)
        direction /= np.linalg.norm(direction)
        exact = float(tf.reduce_sum(gradient * direction))

        def loss_at(step: float, variable: Any = variable, direction: np.ndarray = direction) -> float:
            start = variable.numpy()
            variable.assign(start + step * direction)
            loss = float(compute(batch)[2]["meta_loss"])
            variable.assign(start)
            return loss

        deviations[variable.path] = np.inf
        for h in DIFFERENCE_STEPS:
            deviation = abs((loss_at(h) - loss_at(-h)) / (2 * h) - exact) / max(scale, 1e-12)
            deviations[variable.path] = min(deviations[variable.path], deviation)
            if deviation < tolerance / 10:
                break
    worst = max(deviations, key=lambda path: deviations[path])
    if not deviations[worst] <= tolerance:
        single = single_precision_layers(learner.model, _first_task(batch))
        if single:
            raise UserError(
                f"the meta-gradient of model '{model.name}' cannot be checked: layer "
                f"{', '.join(map(repr, single))} computes in float32 whatever its dtype; check a model without it"
            )
        raise UserError(
            f"the meta-gradient of model '{model.name}' is wrong: it is {deviations[worst]:.1e} off finite differences "
            f"at '{worst}' (relative; allowed {tolerance:.0e}). {_blame(learner.model, batch, tolerance)}"
        )
    return deviations


def _finest(values: Any) -> tf.Tensor:
    """Numbers in float64, but whole ones as they are."""
    values = tf.convert_to_tensor(values)
    return tf.cast(values, tf.float64) if values.dtype.is_floating else values


def _first_task(batch: Mapping[str, Any]) -> Any:
    return tf.nest.map_structure(lambda x: x[0], batch["support_images"])


def _blame(model: keras.Model, batch: Mapping[str, tf.Tensor], tolerance: float) -> str:
    errors = second_derivative_errors(model, _first_task(batch))
    wrong = {name for name, error in errors.items() if not error <= tolerance}
    # A layer that holds others is at fault where none of those is.
    holders = {
        layer.name
        for layer in model._flatten_layers()
        if wrong & {inner.name for inner in layer._flatten_layers(include_self=False)}
    }
    guilty = [name for name in errors if name in wrong - holders]
    if guilty:
        return f"Second derivatives are wrong in layer {', '.join(repr(name) for name in guilty)}: replace it"
    return "No single layer is at fault: look at the operations between layers and at the loss"


def second_derivative_errors(model: keras.Model, images: Any, seed: int = 0) -> dict[str, float]:
    """For each layer, how far its own second derivatives are off, in a graph (relative).

    Args:
        model: in float64.
        images: `[B, ...]`, a batch to run it on.
        seed: of the directions.

    Example:
        >>> model = in_float64(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh", name="dense")]))
        >>> second_derivative_errors(model, np.ones((4, 2)))["dense"] < 1e-5
        True
    """
    calls = list(_recorded_calls(model, tf.nest.map_structure(_finest, images)))
    with inner_step(0):  # as in training
        return {layer.name: _second_derivative_error(layer, args, kwargs, seed) for layer, args, kwargs in calls}


def single_precision_layers(model: keras.Model, images: Any, seed: int = 0) -> list[str]:
    """The names of layers whose outputs are float32 numbers though their inputs are not, as of `tf.image.resize`.

    Args:
        model: in float64.
        images: `[B, ...]`, a batch to run it on.
        seed: of the noise that gives inputs more digits than float32 has.

    Example:
        >>> class Rounding(keras.layers.Layer):
        ...     def call(self, x):
        ...         return tf.cast(tf.cast(x, "float32"), x.dtype)
        >>> inputs = keras.Input((3,), dtype="float64")
        >>> model = keras.Model(inputs, Rounding(name="rounding", dtype="float64")(inputs))
        >>> single_precision_layers(model, np.ones((4, 3)))
        ['rounding']
    """
    generator = np.random.default_rng(seed)

    def finer(value: Any) -> Any:
        if not isinstance(value, tf.Tensor) or value.dtype != tf.float64:
            return value
        return value * (1 + 1e-3 * generator.normal(size=value.shape))

    found = []
    for layer, args, kwargs in _recorded_calls(model, tf.nest.map_structure(_finest, images)):
        weights, state = (
            [tf.convert_to_tensor(v) for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables)
        )
        with inner_step(0):
            outputs, _ = layer.stateless_call(weights, state, *tf.nest.map_structure(finer, args), **kwargs)
        if all(_is_single(value) for value in tf.nest.flatten(outputs)):
            found.append(layer.name)
    return found


def _is_single(value: tf.Tensor) -> bool:
    exact = value.numpy()
    distinct = np.unique(exact).size > 2  # of none, one or two values, such as a mask's, nothing follows
    return distinct and np.array_equal(exact, exact.astype(np.float32).astype(exact.dtype))


def _second_derivative_error(layer: keras.layers.Layer, args: Any, kwargs: Any, seed: int) -> float:
    inputs = [a for a in tf.nest.flatten(args) if isinstance(a, tf.Tensor) and a.dtype == tf.float64]
    state = [tf.convert_to_tensor(v) for v in layer.non_trainable_variables]
    count = len(layer.trainable_variables)

    def call(*point: tf.Tensor) -> Any:
        rest = iter(point[count:])
        fed = tf.nest.map_structure(
            lambda a: next(rest) if isinstance(a, tf.Tensor) and a.dtype == tf.float64 else a, args
        )
        return layer.stateless_call(list(point[:count]), state, *fed, **kwargs)[0]

    point = [tf.convert_to_tensor(v) for v in layer.trainable_variables] + inputs
    return second_derivative_error(call, point, seed) if point else 0.0


def _recorded_calls(model: keras.Model, images: tf.Tensor) -> Iterator[tuple[keras.layers.Layer, Any, Any]]:
    """Each layer with the arguments of its first call on `images`, but those called in a loop's graph alone."""
    calls: dict[str, tuple[keras.layers.Layer, Any, Any]] = {}
    layers = [part for part in model._flatten_layers(include_self=False) if not isinstance(part, keras.Model)]

    def recording(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if not any(tf.is_symbolic_tensor(a) for a in tf.nest.flatten((args, kwargs)) if isinstance(a, tf.Tensor)):
                calls.setdefault(layer.name, (layer, args, kwargs))
            return call(*args, **kwargs)

        return wrapped

    originals = {layer: layer.call for layer in layers}
    try:
        for layer in layers:
            object.__setattr__(layer, "call", recording(layer, originals[layer]))
        weights, state = (
            [tf.convert_to_tensor(v) for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
        )
        with inner_step(0):
            model.stateless_call(weights, state, images, **training_argument(model, True))
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")
    yield from calls.values()


def in_float64(model: keras.Model) -> keras.Model:
    """A copy of a model that computes in float64, weights kept; a float64 model as it is.

    Args:
        model: Sequential or functional, or any in float64.

    Raises:
        UserError: a model of another dtype that cannot be copied, such as a subclassed one.

    Example:
        >>> in_float64(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])).weights[0].dtype
        'float64'
    """
    if all(v.dtype == "float64" for v in model.trainable_variables):
        return model
    if not (isinstance(model, keras.Sequential) or hasattr(model, "operations")):
        raise UserError(f"model '{model.name}' is subclassed: build it under keras.config.set_dtype_policy('float64')")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")  # of layers that a layer of the user's own makes
    try:
        twin = keras.models.clone_model(model, clone_function=_float64_copy, recursive=True)
        for new, old in zip(twin.variables, model.variables, strict=True):
            if new.dtype == "float32":  # LoRA's, whatever the layer's dtype
                new._dtype = "float64"
                new._initialize(tf.cast(old.value, tf.float64))
            new.assign(tf.cast(old.value, new.dtype))
    except (ValueError, TypeError, NotImplementedError, tf.errors.InvalidArgumentError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"model '{model.name}' cannot be copied in float64 ({why}): build it under "
            "keras.config.set_dtype_policy('float64')"
        ) from error
    finally:
        keras.config.set_dtype_policy(before)
    copy_trainable(model, twin)
    return twin


def _float64_copy(layer: Any) -> Any:
    # An operation between layers (`x + y` on Keras tensors) computes in the dtype of what it is given.
    if not isinstance(layer, keras.layers.Layer) or type(layer) is keras.layers.Lambda:
        return copied_layer(layer, **({"dtype": "float64"} if isinstance(layer, keras.layers.Layer) else {}))
    return layer.__class__.from_config({**_in_float64(layer.get_config()), "dtype": "float64"})


def _in_float64(config: Any) -> Any:
    """A config with every floating dtype inside, such as those of a wrapped layer or of cells, made float64."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_in_float64, config))
    if not isinstance(config, dict):
        return config
    return {k: "float64" if k == "dtype" and "float" in str(v) else _in_float64(v) for k, v in config.items()}
