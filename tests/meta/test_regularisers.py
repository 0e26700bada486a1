"""Regularisers, activity regularisers and `add_loss` count as in Keras, in the inner steps and in the outer loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.layers.step_context import inner_step
from tf_mamlpp.meta.gradient_check import check_meta_gradient
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks

layers, regularizers = keras.layers, keras.regularizers
STEPS, RATE = 2, 0.2


def takes_float64():
    try:
        return all(r(tf.ones(2, tf.float64)) > 0 for r in (regularizers.L1(1 / 64), regularizers.L1L2(1 / 64, 1 / 32)))
    except (tf.errors.InvalidArgumentError, TypeError):
        return False


# Keras 3.8's do not.
in_float64 = pytest.mark.skipif(not takes_float64(), reason="this Keras's regularisers do not take float64")


class Noted(layers.Layer):
    """A layer that adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.05 * tf.reduce_mean(x**2))
        return x


@pytest.fixture
def model():
    images = keras.Input((8, 8, 1), dtype="float64")
    x = layers.Flatten(dtype="float64")(images)
    x = layers.Dense(
        4,
        "tanh",
        kernel_regularizer=regularizers.L2(1 / 32),
        bias_regularizer=regularizers.L1(1 / 64),
        activity_regularizer=regularizers.L2(1 / 16),
        bias_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=1),
        dtype="float64",
    )(x)
    head = layers.Dense(3, kernel_regularizer=regularizers.L1L2(1 / 64, 1 / 32), dtype="float64")
    return keras.Model(images, head(Noted(dtype="float64")(x)))


def own_loss(weights, images, labels):
    """By hand: cross-entropy, and what the layers of `model` add to it."""
    kernel, bias, head, head_bias = weights
    hidden = tf.tanh(tf.reshape(images, (images.shape[0], -1)) @ kernel + bias)
    logits = hidden @ head + head_bias
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    loss += tf.reduce_sum(kernel**2) / 32 + tf.reduce_sum(tf.abs(bias)) / 64
    loss += tf.reduce_sum(hidden**2) / 16 / (images.shape[0] if divides_by_batch() else 1)
    loss += 0.05 * tf.reduce_mean(hidden**2)
    return loss + tf.reduce_sum(tf.abs(head)) / 64 + tf.reduce_sum(head**2) / 32


def divides_by_batch():
    """Whether this version of Keras takes activity regularisers for each picture."""
    probe = layers.ActivityRegularization(l2=1.0)
    probe(tf.ones((4, 1)))
    return float(probe.losses[0]) == 1.0


def by_hand(model, tasks, adapted, weights_of_steps):
    """MAML written out: the mean of the tasks' query losses, weighted and last ones, and the meta-gradient."""
    start = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    totals, last = [], []
    with tf.GradientTape() as outer:
        outer.watch(start)
        for task in range(2):
            support, query = (
                [tasks[f"{part}_{kind}"][task] for kind in ("images", "labels")] for part in ("support", "query")
            )
            weights, losses = list(start), []
            for _ in range(STEPS):
                with tf.GradientTape() as tape:
                    tape.watch(weights)
                    loss = own_loss(weights, *support)
                gradients = tape.gradient(loss, weights)
                weights = [
                    w - RATE * g if i in adapted else w for i, (w, g) in enumerate(zip(weights, gradients, strict=True))
                ]
                losses.append(own_loss(weights, *query))
            totals.append(sum(w * q for w, q in zip(weights_of_steps, losses, strict=True)))
            last.append(losses[-1])
        total = sum(totals) / 2
    return total, sum(last) / 2, outer.gradient(total, start)


@in_float64
@pytest.mark.parametrize(
    ("settings", "adapted", "weights_of_steps"),
    [
        pytest.param({}, range(4), (0, 1), marks=pytest.mark.slow),
        ({"multi_step_loss": True, "multi_step_loss_epochs": 5}, range(4), (0.5, 0.5)),
        ({"adapted": "head"}, (2, 3), (0, 1)),
        pytest.param({"rematerialise": True}, range(4), (0, 1), marks=pytest.mark.slow),
        pytest.param({"batched_tasks": True}, range(4), (0, 1), marks=pytest.mark.slow),
    ],
    ids=["all", "multi-step loss", "head", "rematerialised", "batched"],
)
def test_both_loops_are_those_of_a_hand_written_one(model, make_tasks, settings, adapted, weights_of_steps):
    tasks = make_tasks()
    assert len(model.losses) == 3  # of weights; the others come with a pass
    learner = MetaLearner(model, way=3, inner_steps=STEPS, inner_rate=RATE, **settings)
    gradients, _, numbers = tf.function(learner.meta_gradient, autograph=False)(tasks)
    total, last, expected = by_hand(learner.model, tasks, adapted, weights_of_steps)
    np.testing.assert_allclose(numbers["meta_loss"], total, rtol=1e-12)
    np.testing.assert_allclose(numbers["loss"], last, rtol=1e-12)
    for ours, theirs in zip(gradients, expected, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@in_float64
def test_they_count_in_evaluation_as_in_keras(model, make_tasks):
    tasks = make_tasks()
    learner = MetaLearner(model, way=3, inner_steps=STEPS, inner_rate=RATE)
    learner.compile("sgd")
    _, last, _ = by_hand(learner.model, tasks, range(4), (0, 1))
    logs = learner.evaluate(tf.data.Dataset.from_tensors(tasks), return_dict=True, verbose=0)
    np.testing.assert_allclose(logs["loss"], last, rtol=1e-6)


def test_prototypical_networks_add_those_of_the_query_pass(make_tasks):
    tasks = make_tasks()

    def learner(rate):
        keras.utils.set_random_seed(0)
        hidden = layers.Dense(4, kernel_regularizer=regularizers.L2(rate), dtype="float64")
        head = layers.Dense(3, dtype="float64")
        images = keras.Input((8, 8, 1), dtype="float64")
        model = keras.Sequential([images, layers.Flatten(dtype="float64"), hidden, head])
        return PrototypicalNetworks(model, way=3), hidden.kernel

    (plain, kernel), (regularised, _) = learner(0.0), learner(1 / 8)
    losses = [tf.function(one.meta_gradient, autograph=False)(tasks)[2]["loss"] for one in (plain, regularised)]
    np.testing.assert_allclose(losses[1] - losses[0], tf.reduce_sum(kernel**2) / 8, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("per_step", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_batch_norms_regularisers_are_of_the_row_of_the_pass(make_tasks, per_step):
    norm = layers.BatchNormalization(gamma_regularizer=regularizers.L2(0.5), beta_regularizer="l1", dtype="float64")
    images = keras.Input((8, 8, 1), dtype="float64")
    x = norm(layers.Conv2D(2, 3, dtype="float64")(images))
    model = keras.Model(images, layers.Dense(3, dtype="float64")(layers.Flatten(dtype="float64")(x)))
    converted = convert_normalization(model, 3, per_step, per_step)
    (table,) = [layer for layer in converted.layers if isinstance(layer, PerStepBatchNormalization)]
    table.gamma.assign(tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "float64") if per_step else [3.0, 4.0])
    with inner_step(1):
        np.testing.assert_allclose(sum(converted.losses), 0.5 * 25)
    restored = PerStepBatchNormalization.from_config(table.get_config())
    restored.build((None, 6, 6, 2))
    assert restored.gamma_regularizer.l2 == 0.5 and len(restored.losses) == 2
    settings = {
        "way": 3,
        "inner_steps": 3,
        "inner_rate": 0.2,
        "per_step_weights": per_step,
        "per_step_statistics": per_step,
    }
    check_meta_gradient(model, make_tasks(), **settings)
