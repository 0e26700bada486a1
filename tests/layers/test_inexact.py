"""What has wrong second derivatives and cannot be exchanged is refused by name, in second order alone."""

import keras
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.pooling import ExactMaxPooling2D
from tf_mamlpp.meta.gradient_check import check_meta_gradient
from tf_mamlpp.meta.meta_learner import MetaLearner

layers = keras.layers


class Own(keras.Model):
    """A model whose layers cannot be exchanged."""

    def __init__(self, between, name="mine"):
        super().__init__(name=name)
        self.conv = layers.Conv2D(2, 3, padding="same", activation="tanh")
        self.between = between
        self.dense = layers.Dense(3)

    def call(self, x, training=False):
        return self.dense(tf.reduce_mean(self.between(self.conv(x)), [1, 2]))


def own(between):
    model = Own(between)
    model(tf.zeros((1, 8, 8, 1)))
    return model


def functional(between):
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, padding="same", activation="tanh")(images)
    return keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(between(x))), name="mine")


def moments(x):
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def train(model, tasks, **settings):
    learner = MetaLearner(model, way=3, inner_steps=2, **settings)
    return tf.function(learner.meta_gradient, autograph=False)(tasks)


WRONG = {
    "max-pool": lambda: own(layers.MaxPooling2D(3, 1, "same")),
    "max-pool in a tf.function": lambda: own(tf.function(lambda x: tf.nn.max_pool2d(x, 3, 1, "SAME"))),
    "max-pool in a branch": lambda: own(
        lambda x: tf.switch_case(tf.rank(x) - 4, [lambda: tf.nn.max_pool2d(x, 3, 1, "SAME"), lambda: tf.tanh(x)])
    ),
    "max-pool of one pixel": lambda: own(lambda x: tf.nn.max_pool2d(x[:, :1, :1], 2, 2, "SAME")),
    "max-pool of an operation": lambda: functional(lambda x: keras.ops.max_pool(x, 3, 1, "same")),
    "moments": lambda: own(moments),
    "moments of an operation": lambda: functional(lambda x: x - keras.ops.moments(x, [1, 2], keepdims=True)[1]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_operations_are_refused_by_name(make_tasks, kind):
    said = "where a max-pool's outputs" if "max-pool" in kind else "where tf.nn.moments holds"
    with pytest.raises(UserError, match=f"^model 'mine': .* of operation '.*' are wrong.*{said}") as caught:
        train(WRONG[kind](), make_tasks(dtype="float32"))
    assert "\n" not in str(caught.value)


def test_a_run_is_refused_in_its_first_order_phase_already(make_tasks):
    annealed = {"derivative_order_annealing": True, "second_order_from_epoch": 5}
    with pytest.raises(UserError, match="are wrong in TensorFlow"):
        train(WRONG["max-pool"](), make_tasks(dtype="float32"), **annealed)


@pytest.mark.parametrize(
    ("between", "settings"),
    [
        (layers.MaxPooling2D(3, 1, "same"), {"first_order": True}),
        (moments, {"first_order": True}),
        (layers.MaxPooling2D(3, 1, "same"), {"adapted": "head"}),
        (layers.MaxPooling2D(3, 2, "same"), {}),
        (ExactMaxPooling2D(3, 1, "same"), {}),
    ],
    ids=["first order", "moments in first order", "of weights that are not adapted", "stride 2", "exact"],
)
def test_what_is_right_is_not_refused(make_tasks, between, settings):
    train(own(between), make_tasks(dtype="float32"), **settings)


def test_the_meta_gradient_of_an_inception_block_is_exact(make_tasks):
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, padding="same", activation="tanh")(images)
    left = layers.Conv2D(2, 1)(layers.MaxPooling2D(3, 1, "same")(x))
    x = layers.Concatenate()([left, layers.Conv2D(2, 3, padding="same")(x)])
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    check_meta_gradient(model, make_tasks(), way=3, inner_steps=2, inner_rate=0.5)


def test_spectral_normalisation_is_refused_in_second_order():
    normed = layers.SpectralNormalization(layers.Dense(3), name="normed")
    model = keras.Sequential([keras.Input((4,)), normed], name="mine")
    with pytest.raises(UserError, match="layer 'normed' .SpectralNormalization. are wrong"):
        MetaLearner(model, way=3)


def test_an_operation_without_a_second_derivative_is_named(make_tasks):
    with pytest.raises(UserError, match="no derivative of SoftsignGrad, .*: use another"):
        train(functional(layers.Activation("softsign")), make_tasks(dtype="float32"))
