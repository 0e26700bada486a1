"""Copies of users' models: the same numbers, and nothing shared."""

import keras
import numpy as np
import pytest

import tf_mamlpp as mp
from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.layers.copying import copied

L = keras.layers


def with_state():
    layers = [keras.Input((4,)), L.Normalization(), L.Dropout(0.5), L.Dense(3), L.GaussianNoise(0.1, seed=3)]
    model = keras.Sequential(layers)
    model.layers[0].adapt(np.random.default_rng(0).normal(3, 2, (20, 4)))
    model.layers[2].bias.trainable = False
    return model


def nested():
    inputs = keras.Input((4,), name="x")
    body = keras.Sequential([L.Dense(3, "tanh"), L.Dense(3)], name="body")
    return keras.Model({"x": inputs}, body(inputs) + body(2 * inputs))


@keras.saving.register_keras_serializable("test_copying")
class Own(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dense = units, L.Dense(units)

    def call(self, x, training=False):
        return self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def own():
    model = Own(3)
    model(np.zeros((1, 4), "float32"))
    return model


@pytest.mark.parametrize("make", [with_state, nested, own])
def test_a_copy_has_the_same_numbers_and_variables_of_its_own(make):
    model = make()
    twin = copied(model)
    assert twin is not model
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    x = {"x": x} if isinstance(getattr(model, "input", None), dict) else x
    for training in (False, True):  # the same units are dropped
        np.testing.assert_array_equal(model(x, training=training), twin(x, training=training))
    assert [v.path for v in model.trainable_variables] == [v.path for v in twin.trainable_variables]
    assert not {id(v) for v in model.variables} & {id(v) for v in twin.variables}


def test_copying_draws_nothing():
    drawn = []
    for copy in (lambda model: None, copied):
        keras.utils.set_random_seed(0)
        model = with_state()
        copy(model)
        drawn.append(with_state().layers[2].kernel.numpy())
    np.testing.assert_array_equal(*drawn)


class Plain(keras.Model):
    """No config tells of its dense layer."""

    def __init__(self, dense):
        super().__init__()
        self.dense = dense

    def call(self, x, training=False):
        return self.dense(x)


def plain():
    model = Plain(L.Dense(3))
    model(np.zeros((1, 4), "float32"))
    return model


def small():
    return keras.Sequential([keras.Input((4,)), L.Dense(4, "tanh"), L.Dense(3)])


def test_what_has_no_config_lends_its_code():
    model = plain()
    twin = copied(model)
    assert isinstance(twin, BorrowedModel) and [v.path for v in twin.weights] == [v.path for v in model.weights]
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    np.testing.assert_array_equal(twin(x), model(x))


def test_a_lambda_is_copied_with_its_function():
    layers = [keras.Input((4,)), L.Lambda(lambda x: 2 * x), L.Dense(3)]
    model = keras.Sequential(layers)
    twin = copied(model)
    assert isinstance(twin, keras.Sequential) and twin is not model
    np.testing.assert_array_equal(twin(np.ones((2, 4))), model(np.ones((2, 4))))


@pytest.mark.parametrize(
    ("learner", "make"), [(mp.MetaLearner, small), (mp.MetaLearner, plain), (mp.PrototypicalNetworks, small)]
)
def test_the_users_model_is_not_trained(make_tasks, learner, make):
    model = make()
    before = model.get_weights()
    trained = learner(model, way=3)
    trained.compile(keras.optimizers.SGD(0.5))
    first = [v.numpy() for v in trained.trainable_variables]
    trained.train_step(make_tasks(shape=(4,), dtype="float32"))
    assert any((v.numpy() != old).any() for v, old in zip(trained.trainable_variables, first, strict=True))
    for new, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_normalisation_that_has_seen_data_keeps_what_it_knows_in_a_converted_model():
    model = keras.Sequential([keras.Input((4,)), L.Normalization(), L.BatchNormalization(), L.Dense(3)])
    model.layers[0].adapt(np.random.default_rng(0).normal(3, 2, (20, 4)))
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(mp.convert_normalization(model, 1)(x), model(x), rtol=1e-5, atol=1e-6)
