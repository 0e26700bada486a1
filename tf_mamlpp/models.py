"""The paper's backbone as a plain Keras model.

Stock layers only: `MetaLearner` turns the batch norms into per-step ones, as it does for any user's model.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError


@keras.saving.register_keras_serializable("tf_mamlpp")
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Leaky ReLU of slope 0.01.  TensorFlow's own keeps its slope in float32, which float64 checks would see."""
    return tf.maximum(x, 0.01 * x) if x.dtype == tf.float64 else tf.nn.leaky_relu(x, 0.01)


def _input(shape: tuple[int, ...], dtype: str | None) -> keras.KerasTensor:
    # An Input of its default dtype would round float64 data to float32.
    return keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)


def conv4(
    image_shape: tuple[int, ...], way: int, filters: int = 64, blocks: int = 4, dtype: str | None = None
) -> keras.Model:
    """Blocks of 3x3 convolution, batch norm, max-pool and leaky ReLU, then a dense layer.

    The paper's network ("How to train your MAML", section 5).  It puts the activation before the pool;
    a rising function commutes with a maximum, and after the pool it has a quarter of the work.

    Args:
        image_shape: `(height, width, channels)`.
        way: classes of a task, the width of the output.
        filters: of every block (paper: 64 for Omniglot, 48 for mini-ImageNet).
        blocks: how many; each halves height and width.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from images `[B, height, width, channels]` to logits `[B, way]`.
    """
    if len(image_shape) != 3 or min(image_shape[:2]) < 2**blocks:
        raise UserError(f"conv4 halves pictures {blocks} times, {image_shape} leaves nothing; use fewer blocks")
    layers: list[keras.layers.Layer] = [_input(image_shape, dtype)]
    for i in range(blocks):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", name=f"conv{i}", dtype=dtype),
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{i}", dtype=dtype),
            keras.layers.MaxPooling2D(2, name=f"pool{i}", dtype=dtype),
            keras.layers.Activation(leaky_relu, name=f"activation{i}", dtype=dtype),
        ]
    layers += [
        keras.layers.Flatten(name="flatten", dtype=dtype),
        keras.layers.Dense(way, name="dense", dtype=dtype),
    ]
    return keras.Sequential(layers, name="conv4")


def mlp(
    input_shape: tuple[int, ...], outputs: int, units: tuple[int, ...] = (40, 40), dtype: str | None = None
) -> keras.Model:
    """A fully connected network; its default is the MAML paper's for the sinusoid (arXiv 1703.03400, section 5.1).

    Args:
        input_shape: of one example; flattened.
        outputs: width of the last layer.
        units: of the hidden layers, ReLU each.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from `[B, *input_shape]` to `[B, outputs]`.
    """
    layers: list[keras.layers.Layer] = [_input(input_shape, dtype)]
    if len(input_shape) > 1:
        layers.append(keras.layers.Flatten(name="flatten", dtype=dtype))
    layers += [keras.layers.Dense(n, "relu", name=f"dense{i}", dtype=dtype) for i, n in enumerate(units)]
    return keras.Sequential([*layers, keras.layers.Dense(outputs, name="dense", dtype=dtype)], name="mlp")
