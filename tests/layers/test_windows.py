import itertools

import pytest
import tensorflow as tf

from tf_mamlpp.layers.windows import place_windows


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_places_windows_as_tensorflow_does(padding):
    """Each window's sum, by the places and by a convolution of ones."""
    for length, size, stride, dilation in itertools.product((7, 8), (1, 2, 3), (1, 2, 3), (1, 2)):
        if stride > 1 and dilation > 1:
            continue
        x = tf.random.stateless_normal([length], [0, 0])
        windows = place_windows(length, size, stride, dilation, padding)
        padded = tf.pad(x, [windows.padding])
        sums = [sum(padded[w * stride + o] for o in windows.offsets) for w in range(windows.count)]
        expected = tf.nn.conv1d(x[None, :, None], tf.ones([size, 1, 1]), stride, padding.upper(), dilations=dilation)
        tf.debugging.assert_near(tf.stack(sums), expected[0, :, 0])
