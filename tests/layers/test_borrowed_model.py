"""A user's model with weights of the learner's: its own are never touched."""

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.layers.batch_norms import batch_norms, per_step_drift
from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.layers.step_context import inner_step

layers = keras.layers
X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


class Net(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.first = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l2", name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.drop, self.head = layers.Dropout(0.5, seed=3), layers.Dense(2, name="head")
        self.head.trainable = False

    def call(self, x, training=False):
        return self.head(self.drop(self.norm(self.first(x)), training=training))


def built(scatter):
    net = Net()
    net(X)
    return scatter(net)


def test_the_same_outputs_losses_names_and_trainability(scatter):
    net = built(scatter)
    borrowed = BorrowedModel(net, 3, True, True)
    np.testing.assert_allclose(borrowed(X), net(X), rtol=1e-6)
    np.testing.assert_allclose(sum(borrowed.losses), sum(net.losses), rtol=1e-6)
    for own, theirs in ((borrowed.trainable_variables, net.trainable_variables), (borrowed.variables, net.variables)):
        assert sorted(v.path for v in own) == sorted(v.path for v in theirs)
    assert [v.path for v in borrowed.trainable_variables] == [v.path for v in net.trainable_variables]
    (norm,) = batch_norms(borrowed)
    assert norm.layer is net.norm and {v.shape for v in (*norm.weights, *norm.statistics)} == {(3, 4)}


def test_a_pass_writes_the_row_of_its_step_and_nothing_of_the_users(scatter):
    net = built(scatter)
    before, (norm,) = net.get_weights(), batch_norms(borrowed := BorrowedModel(net, 3, True, True))
    old = norm.statistics[0].numpy()
    with inner_step(1):
        borrowed(X, training=True)
    changed = (norm.statistics[0].numpy() != old).all(-1)
    assert changed.tolist() == [False, True, False]
    for a, b in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    seeds = [v for v in borrowed.variables if "int" in v.dtype]
    assert [v.numpy()[1] for v in seeds] == [1]  # dropout has drawn once, of a seed of its own


def test_rows_of_weights_serve_their_steps(scatter):
    borrowed = BorrowedModel(built(scatter), 3, True)
    (norm,) = batch_norms(borrowed)
    gamma = norm.weights[0]
    gamma.assign(tf.stack([gamma[0], 2 * gamma[0], 3 * gamma[0]]))
    outputs = []
    for step in (0, 1, tf.constant(2), 7):
        with inner_step(step, momentum=1.0):
            outputs.append(borrowed(X).numpy())
    assert not np.allclose(outputs[0], outputs[1]) and not np.allclose(outputs[1], outputs[2])
    np.testing.assert_array_equal(outputs[2], outputs[3])  # past the last row: the last one
    ((_, drift), (_, none)) = per_step_drift(borrowed)
    assert (np.diff(drift) > 0).all() and not none.any()
