"""`adapt` and all else for models of several inputs, in a dict, a tuple or a list."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.errors import UserError

L = keras.layers


def two_inputs(names):
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((3,), name="a"), keras.Input((2,), name="b")]
    joined = L.Dense(4, "tanh")(L.Concatenate()(inputs))
    struct = dict(zip("ab", inputs, strict=True)) if names is dict else names(inputs)
    return keras.Model(struct, {"logits": L.Dense(3)(joined)}, name="two")


def parts(values, names):
    found = (values[..., :3], values[..., 3:])
    return dict(zip("ab", found, strict=True)) if names is dict else names(found)


def one_input():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((5,)), L.Dense(4, "tanh"), L.Dense(3)])


SLOW = [pytest.param(names, marks=pytest.mark.slow) for names in (tuple, list)]


@pytest.mark.slow
@pytest.mark.parametrize("names", [dict, *SLOW])
def test_several_inputs_are_one_in_parts(make_tasks, names):
    tasks = make_tasks(shape=(5,), dtype="float32")
    settings = {"way": 3, "inner_steps": 1, "inner_rate": 0.5, "query_statistics": "support"}
    whole, split = mp.MetaLearner(one_input(), **settings), mp.MetaLearner(two_inputs(names), **settings)
    joint = names if names is not list else tuple  # in a dataset a list is a tensor
    nested = {k: parts(v, joint) if k.endswith("images") else v for k, v in tasks.items()}
    for learner in (whole, split):
        learner.compile("sgd")
    found = [
        [
            learner.predict_adapted(
                learner.adapt(cut(tasks["support_images"][0]), tasks["support_labels"][0]),
                cut(tasks["query_images"][0]),
            ),
            learner.predict(batch, verbose=0),
            learner.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0),
            mp.evaluate(learner, [batch], members=[lambda: None] * 2).per_task,
        ]
        for learner, batch, cut in ((whole, tasks, lambda x: x), (split, nested, lambda x: parts(x, names)))
    ]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_gradient_check_takes_several_inputs(make_tasks):
    tasks = make_tasks(shape=(5,), dtype="float32")
    nested = {k: parts(v, dict) if k.endswith("images") else v for k, v in tasks.items()}
    deviations = mp.check_meta_gradient(two_inputs(dict), nested, way=3, inner_steps=1)
    assert len(deviations) == 4 and max(deviations.values()) < 1e-5


class TwoAnswers(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.dense = L.Dense(3)

    def call(self, x, training=False):
        return self.dense(x), x


def test_several_outputs_are_refused_when_the_learner_is_made():
    inputs = keras.Input((5,))
    outputs = [L.Dense(3)(inputs), L.Dense(2)(inputs)]
    subclassed = TwoAnswers()
    subclassed(tf.zeros((1, 5)))
    for model in (
        keras.Model(inputs, outputs, name="net"),
        keras.Model(inputs, dict(zip("ab", outputs, strict=True)), name="net"),
        subclassed,
    ):
        with pytest.raises(UserError, match="^model 'net' has 2 outputs, and a learner takes one: give it"):
            mp.MetaLearner(model, way=3)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x, y: x.adapt(y["support_images"][0], y["support_labels"][0] + 1), "^support_labels has the label 3: "),
        (lambda x, y: x.adapt(y["support_images"][0], y["support_labels"][0], -1), "^inner_steps is -1: it must be"),
        (lambda x, y: x.adapt(y["support_images"][0], y["support_labels"][0], 1.5), "^inner_steps is of type int"),
        (
            lambda x, y: x.adapt(y["support_images"][0], y["support_labels"][0], query_statistics="mean"),
            "^query_statistics is one of batch, running, support, not 'mean'$",
        ),
        (lambda x, y: mp.evaluate(x, [y], query_statistics="mean"), "^query_statistics is one of batch, running,"),
        (lambda x, y: mp.evaluate(x, [y], inner_steps=-2), "^inner_steps is -2: it must be positive$"),
        (
            lambda x, y: mp.evaluate(x, [{**y, "query_labels": y["query_labels"] - 1}]),
            "^query_labels has the label -1: those of a 3-way task are 0 to 2$",
        ),
    ],
)
def test_wrong_arguments_are_told_at_once(make_tasks, use, message):
    learner = mp.MetaLearner(one_input(), way=3, inner_steps=1)
    with pytest.raises(UserError, match=message):
        use(learner, make_tasks(shape=(5,), dtype="float32"))


@pytest.mark.parametrize(
    ("way", "dtype", "message"),
    [
        (0, "float32", "^way is 0: it must be positive$"),
        (3.5, "float32", r"^way is of type int \| None, and 3.5 is not$"),
        (3, "float64", "^model 'net' has weights of float32 .* and float64 .*: give all its layers one dtype$"),
    ],
)
def test_what_a_learner_cannot_be_made_of(way, dtype, message):
    net = keras.Sequential([keras.Input((5,)), L.Dense(4), L.Dense(3, dtype=dtype)], name="net")
    with pytest.raises(UserError, match=message):
        mp.MetaLearner(net, way=way)
