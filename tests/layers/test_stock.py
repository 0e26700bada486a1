"""Models in stock layers again, beside those in exact ones."""

import keras
import numpy as np
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.meta_learner import MetaLearner

L = keras.layers


def every_kind():
    inputs = keras.Input((8, 8, 2))
    x = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(inputs))
    x = L.UpSampling2D(2, interpolation="bilinear")(L.MaxPooling2D(2)(x))
    x = L.GroupNormalization(2)(L.LayerNormalization()(L.MaxPooling2D(3, 1, padding="same")(x)))
    x = L.Concatenate()([*keras.ops.moments(x, [1, 2]), L.Flatten()(x)])
    return keras.Model(inputs, L.Dense(3)(L.Dropout(0.2)(x)))


def nested():
    body = keras.Sequential([L.Conv2D(3, 3), L.BatchNormalization(scale=False), L.Flatten()])
    return keras.Sequential([keras.Input((8, 8, 2)), body, L.Dense(3)])


@pytest.fixture
def tasks():
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(10, 8, 8, 2)).astype("float32")
    return pictures[:6], np.arange(6) % 3, pictures[6:]


def adapted_of(model, tasks, steps, statistics):
    generator = np.random.default_rng(0)
    rows = {"per_step_weights": True, "per_step_statistics": True}
    learner = MetaLearner(model, way=3, inner_steps=3, inner_rate=0.01, first_order=True, **rows)
    for v in learner.model.variables:  # rows that differ
        if v.dtype == "float32":
            v.assign(v + 0.1 * np.abs(generator.normal(size=v.shape)))
    return learner, learner.adapt(*tasks[:2], steps, statistics)


@pytest.mark.parametrize(
    ("make", "steps", "statistics"),
    [
        (nested, 2, "support"),  # another row than the last
        (nested, 5, "running"),  # past the last
        pytest.param(every_kind, 2, "support", marks=pytest.mark.slow),
        (every_kind, 2, "running"),
    ],
)
def test_an_adapted_model_is_stock_and_gives_the_same(make, steps, statistics, tasks, tmp_path):
    learner, adapted = adapted_of(make(), tasks, steps, statistics)
    model = learner.adapted_model(adapted)
    assert {type(layer).__module__.partition(".")[0] for layer in model._flatten_layers()} == {"keras"}
    expected = learner.predict_adapted(adapted, tasks[2]).numpy()
    assert expected.min() > 1e-4 and np.ptp(expected) > 1e-2
    np.testing.assert_allclose(keras.ops.softmax(model(tasks[2])), expected, atol=2e-6)
    model.save(tmp_path / "adapted.keras")
    loaded = keras.models.load_model(tmp_path / "adapted.keras")
    np.testing.assert_array_equal(loaded(tasks[2]), model(tasks[2]))


@pytest.mark.slow
def test_the_learner_stays_and_the_copy_trains_as_any_model(tasks):
    learner, adapted = adapted_of(nested(), tasks, 3, "support")
    before = [v.numpy() for v in learner.model.variables]
    model = learner.adapted_model(adapted)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(*tasks[:2], epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for old, v in zip(before, learner.model.variables, strict=True):
        np.testing.assert_array_equal(old, v.numpy())


def test_frozen_layers_stay_frozen(tasks):
    model = nested()
    model.layers[0].trainable = False
    learner, adapted = adapted_of(model, tasks, 3, "support")
    copy = learner.adapted_model(adapted)
    assert [v.path for v in copy.trainable_variables] == [v.path for v in copy.layers[-1].variables]


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=False):
        return self.inner(x, training=training)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


class WithoutConfig(Subclassed):
    def get_config(self):
        raise NotImplementedError("no config of this one")


@pytest.mark.parametrize("layers", [[], [L.BatchNormalization]])  # with batch norm the learner borrows its code
def test_a_subclassed_model(layers, tasks):
    inner = keras.Sequential([L.Flatten(), *(layer() for layer in layers), L.Dense(3)], name="inner")
    model = Subclassed(inner)
    model.build((None, 8, 8, 2))
    learner, adapted = adapted_of(model, tasks, 2, "support")
    logits = learner.adapted_model(adapted)(tasks[2])
    np.testing.assert_allclose(keras.ops.softmax(logits), learner.predict_adapted(adapted, tasks[2]), atol=1e-6)


def test_what_cannot_be_is_one_line(tasks):
    model = WithoutConfig(keras.Sequential([L.Flatten(), L.Dense(3)], name="inner"))
    model.build((None, 8, 8, 2))
    learner, adapted = adapted_of(model, tasks, 3, "support")
    with pytest.raises(UserError, match="cannot be copied: no config of this one"):
        learner.adapted_model(adapted)
    with pytest.raises(UserError, match="adapt with 'support' or 'running'"):
        learner.adapted_model(adapted._replace(query_statistics="batch"))
