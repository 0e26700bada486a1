"""Random numbers of a layer of the user's own: others at each update, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.random_draws import seeded_draws_only
from tf_mamlpp.meta.meta_learner import MetaLearner

layers = keras.layers


class Noise(keras.layers.Layer):
    def __init__(self, draw, seeded=False, **kwargs):
        super().__init__(**kwargs)
        self.draw = draw
        self.seed = keras.random.SeedGenerator(1) if seeded else None

    def call(self, x):
        return x + self.draw(x.shape[1:], self.seed)


DRAWS = {
    "normal": lambda shape, seed: keras.random.normal(shape, seed=seed),
    "dropout": lambda shape, seed: keras.random.dropout(tf.ones(shape), 0.5, seed=seed),
    "shuffle": lambda shape, seed: keras.random.shuffle(tf.range(12.0), seed=seed)[: shape[-1]],
}


def learner(noise, **settings):
    stack = [keras.Input((4,)), layers.Dense(3, kernel_initializer="zeros"), noise, layers.Dense(3)]
    learner = MetaLearner(keras.Sequential(stack, name="mine"), way=3, inner_steps=2, **settings)
    learner.compile(keras.optimizers.SGD(0.0))
    return learner


def losses(learner, tasks):
    step = tf.function(learner.train_step, autograph=False)
    return [float(step(tasks)["update_loss"]) for _ in range(3)]


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_without_a_generator_are_refused(make_tasks, draw):
    tasks = make_tasks(shape=(4,), dtype="float32")
    with pytest.raises(UserError, match="^model 'mine': layer 'noise' draws .*: make a self.seed") as caught:
        losses(learner(Noise(DRAWS[draw], name="noise")), tasks)
    assert "\n" not in str(caught.value)
    keras.random.normal((2,))  # outside, nothing has changed


@pytest.mark.slow
@pytest.mark.parametrize("rematerialise", [False, True])
def test_draws_with_one_differ_from_update_to_update(make_tasks, rematerialise):
    noisy = learner(Noise(DRAWS["normal"], seeded=True), rematerialise=rematerialise)
    found = losses(noisy, make_tasks(shape=(4,), dtype="float32"))
    assert len(set(found)) == 3


GENERATOR = tf.random.Generator.from_seed(1)


@pytest.mark.slow_cases("plain", "in a tf.function", "of a generator")
@pytest.mark.parametrize(
    ("draw", "operation"),
    [
        (tf.random.normal, "RandomStandardNormal"),
        (tf.function(tf.random.normal), "RandomStandardNormal"),
        (
            lambda shape: tf.cond(
                tf.reduce_sum(tf.ones(shape)) > 0, lambda: tf.random.normal(shape), lambda: tf.zeros(shape)
            ),
            "Random",
        ),
        (GENERATOR.normal, "RngReadAndSkip"),
    ],
    ids=["plain", "in a tf.function", "in a branch", "of a generator"],
)
def test_draws_of_tensorflow_differ_and_are_refused_where_steps_run_twice(make_tasks, draw, operation):
    tasks, noise = make_tasks(shape=(4,), dtype="float32"), Noise(lambda shape, seed: draw(shape))
    assert len(set(losses(learner(noise), tasks))) == 3
    with pytest.raises(UserError, match=f"operation '.*{operation}.*' of model 'mine' draws other random numbers"):
        losses(learner(noise, rematerialise=True), tasks)


def test_the_generator_of_all_is_put_back():
    generator = global_seed_generator()
    with pytest.raises(UserError), seeded_draws_only("mine"):
        keras.random.normal((2,))
    assert global_seed_generator() is generator
    assert np.isfinite(keras.random.normal((2,))).all()
