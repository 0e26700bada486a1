"""Training in float16 against float32, on a network without kinks, where both take the same path."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.loss_scaling import loss_scale
from tf_mamlpp.meta.meta_learner import MetaLearner

RATE = 0.05


def network(dtype):
    layers, by = keras.layers, {"dtype": dtype}
    stack = [layers.Conv2D(6, 3, strides=2, **by), layers.BatchNormalization(**by), layers.Activation("tanh", **by)]
    stack += [layers.Flatten(**by), layers.Dense(6, "tanh", **by), layers.Dense(3, **by)]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


@pytest.fixture
def train(make_tasks):
    """A learner, its history and how far each of its weights moved in a few updates."""

    def train(dtype, updates=5, by_policy=False, optimizer=None, strategy=None, **settings):
        keras.utils.set_random_seed(0)
        with (strategy or tf.distribute.get_strategy()).scope():
            if by_policy:
                keras.config.set_dtype_policy(dtype)
            try:
                learner = MetaLearner(network(None if by_policy else dtype), way=3, inner_steps=2, **settings)
                learner.compile(optimizer or keras.optimizers.SGD(RATE))
            finally:
                keras.config.set_dtype_policy("float32")
        before = [v.numpy() for v in learner.trainable_variables]
        data = tf.data.Dataset.from_tensors(make_tasks(dtype="float32", query_shot=3)).repeat(updates)
        history = learner.fit(data, verbose=0).history
        return learner, history, [v.numpy() - w for v, w in zip(learner.trainable_variables, before, strict=True)]

    return train


def check_same(plain, half, most=0.02):
    assert isinstance(half[0].optimizer, keras.optimizers.LossScaleOptimizer)
    assert not isinstance(plain[0].optimizer, keras.optimizers.LossScaleOptimizer)
    largest = max(map(np.linalg.norm, plain[2]))
    for variable, a, b in zip(plain[0].trainable_variables, plain[2], half[2], strict=True):
        size = np.linalg.norm(a)
        if size > 1e-4 * largest:  # not the bias before a batch norm, which moves by rounding alone
            assert np.linalg.norm(a - b) < most * size, variable.path
    for name in ("loss", "gradient_norm"):
        assert half[1][name] == pytest.approx(plain[1][name], rel=most)


@pytest.mark.parametrize(
    "settings",
    [
        {"multi_step_loss": True, "learned_rates": True, "gradient_clip": 0.05},
        pytest.param({"rematerialise": True}, marks=pytest.mark.slow),
        pytest.param({"first_order": True}, marks=pytest.mark.slow),
    ],
)
def test_float16_trains_as_float32(train, settings):
    check_same(train("float32", **settings), train("mixed_float16", by_policy=True, **settings))


def small(labels, outputs):
    return 1e-5 * keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)


@pytest.mark.slow
def test_gradients_that_float16_would_lose(train):
    """Of a loss a hundred thousand times smaller, with rates as much larger: the same updates."""
    settings = {"loss": small, "inner_rate": 1e4}
    plain, half = (
        train(dtype, optimizer=keras.optimizers.SGD(RATE * 1e5), **settings) for dtype in ("float32", "mixed_float16")
    )
    check_same(plain, half)
    tasks = {"support_images": tf.random.stateless_normal((3, 8, 8, 1), (0, 0)), "support_labels": tf.range(3)}
    half[0].model.set_weights(plain[0].model.get_weights())
    moved = []
    for learner in (plain[0], half[0]):
        model = learner.functional_model
        fast, _ = model.adapt(tasks, model.state, 2)
        moved.append(
            [w - v for w, v in zip(fast, learner.functional_model.fast(learner.functional_model.start), strict=True)]
        )
    for a, b in zip(*moved, strict=True):
        assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a) + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("clip", [pytest.param(None, marks=pytest.mark.slow), 1.0])
def test_an_update_that_overflows_is_skipped(train, clip):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0**60)
    learner, _, moved = train("mixed_float16", updates=1, optimizer=optimizer, gradient_clip=clip, first_order=True)
    assert float(optimizer.dynamic_scale) == 2.0**59 and float(learner.loss_scale) == 2.0**59
    assert not any(m.any() for m in moved)


@pytest.mark.slow
def test_a_scale_of_the_users_own_changes_nothing(train):
    optimizer = keras.optimizers.SGD(RATE, loss_scale_factor=1024.0)
    plain = train("float32", updates=2, first_order=True)
    scaled = train("float32", updates=2, optimizer=optimizer, first_order=True)
    assert float(loss_scale(optimizer)) == 1024
    for a, b in zip(plain[2], scaled[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_float16_on_two_replicas(train, mirrored_over):
    alone, spread = (train("mixed_float16", strategy=s) for s in (None, mirrored_over(2)))
    for a, b in zip(alone[2], spread[2], strict=True):
        assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a) + 1e-4
