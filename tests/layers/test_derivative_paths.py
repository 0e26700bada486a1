"""Which operations a second derivative goes through."""

import pytest
import tensorflow as tf

from tf_mamlpp.layers.derivative_paths import operations_between
from tf_mamlpp.layers.second_order_ops import max_pool
from tf_mamlpp.layers.traced_operations import traced_operations


def kinds(function, *others):
    """Types of the operations between x and function(x), and their names."""
    found = []

    @tf.function(autograph=False)
    def traced(x, *others):
        with traced_operations() as made:
            y = function(x, *others)
        found.extend(operations_between(made, [x], [y]))
        return y

    traced(tf.ones((1, 4, 4, 1)), *others)
    return {each.operation.type for each in found}, {each.name for each in found}


def loop(x, fixed):
    return tf.while_loop(lambda i, *_: i < 3, lambda i, y, z: (i + 1, tf.exp(z), tf.sin(y)), (0, x, tf.cosh(fixed)))[1]


@pytest.mark.parametrize(
    ("function", "expected", "left_out"),
    [
        (lambda x, fixed: tf.sin(x) * tf.cos(fixed), {"Sin", "Mul"}, {"Cos"}),
        (lambda x, fixed: (tf.tanh(x), tf.sin(x))[1], {"Sin"}, {"Tanh"}),
        (lambda x, fixed: fixed * tf.cast(tf.size(x), "float32") + tf.zeros_like(x), set(), {"Mul", "AddV2"}),
        (lambda x, fixed: tf.gather(tf.reshape(fixed, [-1]), tf.cast(x, "int32")), set(), {"GatherV2"}),
        (lambda x, fixed: tf.cond(fixed[0, 0, 0, 0] > 0, lambda: tf.exp(x), lambda: tf.sin(fixed)), {"Exp"}, {"Sin"}),
        (tf.function(lambda x, fixed: tf.sin(x) + tf.cos(fixed)), {"Sin", "AddV2"}, {"Cos"}),
        # By way of another round: x becomes z, and z becomes y.
        (loop, {"Sin", "Exp"}, {"Cosh"}),
        # Of a custom gradient, what the derivative goes on to is its arguments, not how the results were made.
        (lambda x, fixed: max_pool(tf.sin(x), (2, 2)), {"Sin", "IdentityN"}, {"MaxPool"}),
    ],
    ids=["other inputs", "unused", "sizes", "whole numbers", "a branch", "a function", "a loop", "a custom gradient"],
)
def test_paths(function, expected, left_out):
    found, names = kinds(function, tf.ones((1, 4, 4, 1)))
    assert found >= expected and not found & left_out
    assert "gradient_tape" not in "".join(names)
