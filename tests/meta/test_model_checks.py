"""What a learner needs of Keras and of a model's outputs."""

import keras
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta import model_checks


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UserError, match="^Keras's backend is jax, and tf_mamlpp needs tensorflow"):
        model_checks.check_backend()


def test_inputs_are_declared_in_the_models_own_structure():
    inputs = {"a": keras.Input((3,)), "b": keras.Input((2,), dtype="int32")}
    joined = keras.layers.Concatenate()([inputs["a"], keras.ops.cast(inputs["b"], "float32")])
    specifications = model_checks.declared_inputs(keras.Model(inputs, keras.layers.Dense(2)(joined)))
    assert {k: (v.shape[1], v.dtype) for k, v in specifications.items()} == {"a": (3, tf.float32), "b": (2, tf.int32)}
    assert model_checks.declared_inputs(keras.Model([inputs["a"]], keras.layers.Dense(2)(inputs["a"]))).shape[1] == 3
