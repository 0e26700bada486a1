"""What has wrong second derivatives and cannot be exchanged is refused by name, in second order alone.

Where the model declares its inputs, when the learner is made; else at its first update.
"""

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
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_operations_are_refused_by_name(make_tasks, kind):
    said = "where a max-pool's outputs" if "max-pool" in kind else "where tf.nn.moments holds"
    with pytest.raises(UserError, match=f"^model 'mine': .* of operation '.*'.* are wrong.*{said}") as caught:
        train(WRONG[kind](), make_tasks(dtype="float32"))
    assert "\n" not in str(caught.value)


def test_a_run_is_refused_in_its_first_order_phase_already(make_tasks):
    annealed = {"derivative_order_annealing": True, "second_order_from_epoch": 5}
    with pytest.raises(UserError, match="are wrong in TensorFlow"):
        train(WRONG["max-pool"](), make_tasks(dtype="float32"), **annealed)


@pytest.mark.slow_cases("moments in first order", "of weights that are not adapted", "stride 2", "exact")
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


def looped(x):
    return tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, tf.image.resize(y, (8, 8)) * y), (0, x))[1]


class Layer(layers.Layer):
    """A layer of the user's own."""

    def __init__(self, function):
        super().__init__(name="own")
        self.function = function

    def call(self, x):
        return self.function(x)


def stable_softmax(x):
    powers = tf.exp(x - tf.stop_gradient(tf.reduce_max(x, -1, keepdims=True)))
    return powers / tf.reduce_sum(powers, -1, keepdims=True)


MISSING = {
    "bilinear": (lambda x: tf.image.resize(x, (5, 5)), "ResizeBilinearGrad.*: use tf_mamlpp.resize"),
    "bilinear of Keras": (lambda x: keras.ops.image.resize(x, (5, 5)), "ResizeBilinearGrad"),
    "bilinear in a function": (tf.function(lambda x: tf.image.resize(x, (5, 5))), "ResizeBilinearGrad"),
    "bilinear in a loop": (looped, "ResizeBilinearGrad"),
    "moments": (moments, "tf.nn.moments holds the mean"),
    "moments in half precision": (lambda x: tf.cast(moments(tf.cast(x, "float16")), "float32"), "tf.nn.moments holds"),
    "crop and resize": (
        lambda x: tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 1.0]], [0], (4, 4)),
        "CropAndResizeGradImage",
    ),
    "local response": (tf.nn.lrn, "LRNGrad"),
    "colours": (lambda x: tf.image.hsv_to_rgb(tf.concat([x, x[..., :1]], -1)), "HSVToRGB"),
    "a stop": (lambda x: x * tf.stop_gradient(x), "stopped by tf.stop_gradient: freeze"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_operations_in_a_layer_are_refused_when_the_learner_is_made(kind):
    function, said = MISSING[kind]
    model = functional(Layer(function))
    with pytest.raises(
        UserError, match=f"^model 'mine': .* operation '.+' in layer 'own' .Layer. are .*{said}"
    ) as caught:
        MetaLearner(model, way=3)
    assert str(caught.value).endswith("; or set first_order") and "\n" not in str(caught.value)
    MetaLearner(model, way=3, first_order=True)
    MetaLearner(model, way=3, adapted="head")  # which no gradient comes through the layer for


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - tf.reduce_logsumexp(x, -1, keepdims=True),
        lambda x: x - keras.ops.logsumexp(x, -1, keepdims=True),
        stable_softmax,
        lambda x: tf.sign(x) * x + tf.floor(x),
        lambda x: tf.image.random_brightness(x, 0.1),
        lambda x: tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, tf.tanh(y)), (0, x))[1],
        tf.nn.softsign,
        lambda x: tf.image.resize(x, (5, 5), "bicubic"),
    ],
    ids=["log-sum-exp", "of Keras", "softmax", "steps", "a draw", "a loop", "softsign", "bicubic"],
)
def test_a_layer_of_the_users_own_that_is_right_is_not_refused(function):
    MetaLearner(functional(Layer(function)), way=3)


def test_a_frozen_layer_before_a_stop_is_not_refused():
    model = functional(Layer(tf.stop_gradient))
    model.layers[1].trainable = False
    MetaLearner(model, way=3)


def test_a_layer_without_a_first_derivative_is_named():
    with pytest.raises(UserError, match="no derivative of ResizeArea in layer 'own' .Layer.,.*: use tf_mamlpp.resize"):
        MetaLearner(functional(Layer(lambda x: tf.image.resize(x, (5, 5), "area"))), way=3)


def test_a_model_that_declares_no_inputs_is_refused_eagerly_too(make_tasks):
    learner = MetaLearner(own(moments), way=3, inner_steps=1)
    with pytest.raises(UserError, match="tf.nn.moments holds"):
        learner.meta_gradient(make_tasks(dtype="float32"))


def test_a_loss_with_wrong_second_derivatives_is_refused_at_the_first_update(make_tasks):
    def loss(labels, outputs):
        return tf.nn.moments(outputs**3, [1])[1] - tf.gather(outputs, labels, batch_dims=1)

    with pytest.raises(UserError, match="^model 'mine': .*tf.nn.moments holds"):
        train(functional(layers.Activation("tanh")), make_tasks(dtype="float32"), loss=loss)


EXCHANGED = {
    "bilinear": layers.UpSampling2D(2, interpolation="bilinear", dtype="float64"),
    "bicubic": layers.UpSampling2D((2, 1), interpolation="bicubic", dtype="float64"),
    "resizing": layers.Resizing(5, 6, dtype="float64"),
    "operation": lambda x: keras.ops.image.resize(x, (5, 5), interpolation="lanczos3"),
    "moments": lambda x: x - keras.ops.moments(x, [1, 2], keepdims=True)[1],
    "layer norm": lambda x: keras.ops.layer_normalization(x, axis=-1),
    "softsign": layers.Activation("softsign", dtype="float64"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [k if k in ("bilinear", "moments") else pytest.param(k, marks=pytest.mark.slow) for k in EXCHANGED]
)
def test_the_meta_gradient_of_what_is_exchanged_is_exact(make_tasks, kind):
    images = keras.Input((8, 8, 1), dtype="float64")
    x = layers.Conv2D(3, 3, activation="tanh", dtype="float64")(images)
    x = layers.Conv2D(2, 3, activation="tanh", dtype="float64")(EXCHANGED[kind](x))
    outputs = layers.Dense(3, dtype="float64")(layers.Flatten(dtype="float64")(x))
    check_meta_gradient(keras.Model(images, outputs), make_tasks(), way=3, inner_steps=1, inner_rate=0.3)
