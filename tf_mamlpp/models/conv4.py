"""The network of the MAML++ paper."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.inputs import LAST, check_pictures, input_layer


@keras.saving.register_keras_serializable("tf_mamlpp")
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Leaky ReLU of slope 0.01.

    For float64 it is not TensorFlow's own, which rounds the slope to float32: checks of gradients would see that.

    Args:
        x: tensor of any shape and float dtype.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:
        >>> leaky_relu(tf.constant([-2.0, 3.0], tf.float64)).numpy().tolist()
        [-0.02, 3.0]
    """
    return tf.maximum(x, 0.01 * x) if x.dtype == tf.float64 else tf.nn.leaky_relu(x, 0.01)


def conv4(
    image_shape: tuple[int, ...],
    way: int,
    filters: int = 64,
    blocks: int = 4,
    strided: bool = False,
    dtype: str | None = None,
) -> keras.Model:
    """Blocks of 3x3 convolution, batch norm, leaky ReLU and 2x2 max-pool, then a dense layer.

    The published code has the network in both forms, with pools and with strides.

    Args:
        image_shape: `(height, width, channels)`.
        way: classes of a task, the width of the output.
        filters: of every block (paper: 64 for Omniglot, 48 for mini-ImageNet).
        blocks: how many; each halves height and width.
        strided: convolutions of stride 2 instead of max-pools, and a global average pool before the dense layer.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from images `[B, height, width, channels]` to logits `[B, way]`.

    Raises:
        UserError: the pictures are too small for so many blocks.

    Example:
        >>> model = conv4((28, 28, 1), 5)
        >>> model.output_shape, model.count_params()
        ((None, 5), 112773)

    References:
        Antoniou, Edwards, Storkey, "How to train your MAML", arXiv 1810.09502, section 5.
    """
    check_pictures("conv4", image_shape)
    if min(image_shape[:2]) < 2**blocks:
        raise UserError(f"conv4 halves pictures {blocks} times, {image_shape} leaves nothing; use fewer blocks")
    layers: list[keras.layers.Layer] = [input_layer(image_shape, dtype)]
    for i in range(blocks):
        if strided:
            # Zeros on all four sides, as in the published code; "same" would pad only below and to the right.
            layers += [
                keras.layers.ZeroPadding2D(1, name=f"pad{i}", data_format=LAST, dtype=dtype),
                keras.layers.Conv2D(filters, 3, strides=2, name=f"conv{i}", data_format=LAST, dtype=dtype),
            ]
        else:
            layers.append(
                keras.layers.Conv2D(filters, 3, padding="same", name=f"conv{i}", data_format=LAST, dtype=dtype)
            )
        layers.append(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{i}", dtype=dtype))
        if not strided:
            # The paper's order is activation, pool. An increasing function commutes with a maximum, so this order
            # gives the same result, and the activation has a quarter of the work.
            layers.append(keras.layers.MaxPooling2D(2, name=f"pool{i}", data_format=LAST, dtype=dtype))
        layers.append(keras.layers.Activation(leaky_relu, name=f"activation{i}", dtype=dtype))
    if strided:
        layers.append(keras.layers.GlobalAveragePooling2D(name="average", data_format=LAST, dtype=dtype))
    else:
        layers.append(keras.layers.Flatten(name="flatten", data_format=LAST, dtype=dtype))
    layers.append(keras.layers.Dense(way, name="dense", dtype=dtype))
    return keras.Sequential(layers, name="conv4")
