"""A fully connected network."""

from __future__ import annotations

import keras

from tf_mamlpp.models.inputs import LAST, input_layer


def mlp(
    input_shape: tuple[int, ...], outputs: int, units: tuple[int, ...] = (40, 40), dtype: str | None = None
) -> keras.Model:
    """A fully connected network; its defaults are those of the MAML paper for the sinusoid.

    Args:
        input_shape: of one example; flattened.
        outputs: width of the last layer.
        units: of the hidden layers, ReLU each.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from `[B, *input_shape]` to `[B, outputs]`.

    Example:
        >>> model = mlp((1,), 1)
        >>> [layer.units for layer in model.layers], model.count_params()
        ([40, 40, 1], 1761)

    References:
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", arXiv 1703.03400,
        section 5.1.
    """
    layers: list[keras.layers.Layer] = [input_layer(input_shape, dtype)]
    if len(input_shape) > 1:
        layers.append(keras.layers.Flatten(name="flatten", data_format=LAST, dtype=dtype))
    layers += [keras.layers.Dense(n, "relu", name=f"dense{i}", dtype=dtype) for i, n in enumerate(units)]
    return keras.Sequential([*layers, keras.layers.Dense(outputs, name="dense", dtype=dtype)], name="mlp")
