"""Stock normalisation inside layers and models of the user's own: trained exactly, the user's model left alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.meta.gradient_check import check_meta_gradient
from tf_mamlpp.meta.meta_learner import MetaLearner

layers = keras.layers
SHAPE = (5, 4)


class Transformer(keras.layers.Layer):
    """The block of a BERT, or (first) of a ViT, as KerasHub's `TransformerEncoder`."""

    def __init__(self, width, heads=2, normalize_first=False, **kwargs):
        super().__init__(**kwargs)
        self.normalize_first = normalize_first
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.inner, self.outer = layers.Dense(2 * width, "gelu"), layers.Dense(width)
        self.norms = [layers.LayerNormalization(epsilon=1e-2), layers.LayerNormalization(epsilon=1e-2)]

    def call(self, x):
        for norm, part in zip(self.norms, (self._attend, lambda y: self.outer(self.inner(y))), strict=True):
            x = x + part(norm(x)) if self.normalize_first else norm(x + part(x))
        return x

    def _attend(self, x):
        return self.attention(x, x)


class Normed(keras.layers.Layer):
    """No config tells its function, so that it cannot be copied."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function, self.dense = function, layers.Dense(4, name="inside")
        self.norm = layers.BatchNormalization(epsilon=1e-2, name="norm")

    def call(self, x):
        return self.function(self.norm(self.dense(x)))


class Subclassed(keras.Model):
    """Its call has no `training`."""

    def __init__(self):
        super().__init__(name="net")
        self.dense, self.head = layers.Dense(4, name="inside"), layers.Dense(3, name="head")
        self.norm = layers.BatchNormalization(epsilon=1e-2, name="norm")

    def call(self, x):
        return self.head(keras.ops.mean(keras.ops.tanh(self.norm(self.dense(x))), 1))


def around(*parts, seed=0):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input(SHAPE, dtype="float64")
    for part in parts:
        x = part(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)), name="net")


def subclassed():
    keras.utils.set_random_seed(0)
    model = Subclassed()
    model(tf.zeros((1, *SHAPE), tf.float64))
    return model


def stock():
    parts = (layers.Dense(4, name="inside"), layers.BatchNormalization(epsilon=1e-2, name="norm"))
    return around(*parts, layers.Activation("tanh"))


MODELS = {
    "bert": lambda: around(Transformer(4)),
    "vit": lambda: around(Transformer(4, normalize_first=True)),
    "every step": lambda: around(layers.Dense(4, "tanh"), layers.TimeDistributed(layers.BatchNormalization())),
    "beside a lambda": lambda: around(layers.BatchNormalization(), layers.Lambda(lambda x: tf.tanh(x))),
    "no config": lambda: around(Normed(lambda x: tf.tanh(x))),
    "subclassed": subclassed,
    "masked": lambda: around(layers.Masking(), layers.Dense(4, "tanh"), layers.BatchNormalization()),
}


@pytest.fixture
def float64():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def tasks_of(make_tasks):
    tasks = make_tasks(shape=SHAPE, shot=2)
    keep = np.ones((*tasks["support_images"].shape[:3], 1))
    keep[:, ::2, 3:] = 0  # what `Masking` leaves out
    return {**tasks, "support_images": tasks["support_images"] * keep}


@pytest.mark.slow_cases("no config")
@pytest.mark.parametrize(
    "name", [n if n in ("vit", "no config") else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_the_meta_gradient_is_that_of_finite_differences(name, make_tasks, float64):
    model = MODELS[name]()
    before = model.get_weights()
    check_meta_gradient(model, tasks_of(make_tasks), way=3, inner_steps=1, inner_rate=0.3)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def name_of(variable):
    """Of a variable in either kind of model: its layer's name and its own."""
    return "/".join(variable.path.split("/")[-2:])


ROWS = {"per_step_weights": True, "per_step_statistics": True}


@pytest.mark.slow
@pytest.mark.parametrize("make", [pytest.param(MODELS["no config"], marks=pytest.mark.slow), subclassed])
@pytest.mark.parametrize("statistics", ["running", pytest.param("support", marks=pytest.mark.slow)])
def test_an_update_is_that_of_the_same_layers_in_a_stock_model(make, statistics, make_tasks, float64):
    """With rows for each step, statistics and all: what a copy with exchanged layers does."""
    tasks = tasks_of(make_tasks)
    found = []
    for model in (make(), stock()):
        learner = MetaLearner(model, way=3, inner_steps=2, inner_rate=0.3, query_statistics=statistics, **ROWS)
        for v in learner.model.variables:
            v.assign(np.random.default_rng(len(v.shape) + len(name_of(v))).uniform(0.2, 1.0, v.shape))
        gradients, state, metrics = tf.function(learner.meta_gradient, autograph=False)(tasks)
        adapted = learner.adapt(tasks["support_images"][0], tasks["support_labels"][0])
        named = {name_of(v): g for v, g in zip(learner.trainable_variables, gradients, strict=True)}
        named |= {name_of(v): s for v, s in zip(learner.model.non_trainable_variables, state, strict=True)}
        found.append({**named, **metrics, "answer": learner.predict_adapted(adapted, tasks["query_images"][0])})
        assert isinstance(learner.model, BorrowedModel) == (len(found) == 1)
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-7, atol=1e-10, err_msg=name)


def test_frozen_and_first_order_and_head(make_tasks, float64):
    model = around(Normed(lambda x: tf.tanh(x)))
    model.layers[1].trainable = False
    before = model.get_weights()
    learner = MetaLearner(model, way=3, inner_steps=1, adapted="head", first_order=True, **ROWS)
    learner.compile("adam")
    learner.train_step(make_tasks(shape=SHAPE))
    assert [path.split("/")[-2] for path in learner.adapted_paths] == ["head", "head"]
    changed = {v.path for v, w in zip(model.variables, learner.model.variables, strict=True) if v.path}
    assert changed == {v.path for v in learner.model.variables}
    inside = [v for v in learner.model.variables if "head" not in v.path]
    for own in inside:
        (theirs,) = [v for v in model.variables if v.path == own.path]
        np.testing.assert_array_equal(own.numpy(), np.broadcast_to(theirs.numpy(), own.shape))
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
