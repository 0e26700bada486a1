"""A function of each task, and what an error in it leaves behind: nothing."""

import keras
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.task_map import task_map


def test_after_an_error_variables_are_made_under_a_strategy_as_before():
    @tf.function(autograph=False)
    def refused(x):
        def one(element):
            raise UserError("this model is refused")

        return task_map(one, x, tf.TensorSpec((), tf.float32))

    with pytest.raises(UserError, match="this model is refused"):
        refused(tf.ones(3))
    assert tf.compat.v1.get_variable_scope().caching_device is None
    with tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"]).scope():
        assert keras.layers.Dense(2)(tf.ones((1, 3))).shape == (1, 2)
