"""Support statistics are one mean and variance a batch norm: where one is called twice, they are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks

layers = keras.layers
SAID = "^batch norm 'norm' is called more than once in its model, so that support statistics"


def tied(norms, x):
    for norm in norms:
        x = norm(layers.Conv2D(2, 3, padding="same")(x))
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def shared_layer():
    images = keras.Input((6, 6, 1))
    return keras.Model(images, tied([layers.BatchNormalization(name="norm")] * 2, images))


def shared_block():
    images = keras.Input((6, 6, 2))
    block = keras.Sequential([keras.Input((6, 6, 2)), layers.BatchNormalization(name="norm"), layers.ReLU()])
    return keras.Model(images, layers.Dense(3)(layers.Flatten()(block(block(images)))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm, self.dense = PerStepBatchNormalization(5, False, False, name="norm"), layers.Dense(3)

    def call(self, x, training=False):
        return self.dense(layers.Flatten()(self.norm(self.norm(x) ** 2)))


def subclassed():
    model = Subclassed()
    model(tf.zeros((1, 6, 6, 2)))
    return model


@pytest.mark.parametrize("make", [shared_layer, shared_block])
@pytest.mark.parametrize("setting", ["query_statistics", "evaluation_statistics"])
def test_a_learner_of_support_statistics_is_refused_when_it_is_made(make, setting):
    with pytest.raises(UserError, match=SAID) as caught:
        MetaLearner(make(), way=3, **{setting: "support"})
    assert "\n" not in str(caught.value)


def test_prototypical_networks_too():
    with pytest.raises(UserError, match=SAID):
        PrototypicalNetworks(shared_layer(), way=3, query_statistics="support")


@pytest.mark.slow
@pytest.mark.parametrize("make", [shared_layer, shared_block, subclassed])
def test_adapt_refuses_them_and_takes_others(make):
    learner, shape = MetaLearner(make(), way=3), (3, 6, 6, 1 if make is shared_layer else 2)
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    with pytest.raises(UserError, match=SAID):
        learner.adapt(images, [0, 1, 2])
    for statistics in ("batch", "running"):
        adapted = learner.adapt(images, [0, 1, 2], query_statistics=statistics)
        assert learner.predict_adapted(adapted, images).shape == (3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_norm_for_each_call_or_a_frozen_one_is_taken(frozen):
    images = keras.Input((6, 6, 1))
    one, two = (layers.BatchNormalization(trainable=not frozen) for _ in range(2))
    learner = MetaLearner(keras.Model(images, tied([one, one if frozen else two], images)), way=3)
    pictures = np.random.default_rng(0).normal(size=(3, 6, 6, 1)).astype("float32")
    support, batch = (learner.adapt(pictures, [0, 1, 2], query_statistics=s) for s in ("support", "batch"))
    answers = [learner.predict_adapted(adapted, pictures).numpy() for adapted in (support, batch)]
    np.testing.assert_allclose(*answers, atol=1e-5)  # of the support set itself, both are the same
