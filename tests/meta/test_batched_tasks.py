"""All tasks as one batch: the numbers of one task after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.gradient_check import in_float64
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.conv4 import conv4

PLUS = {**presets["maml++"], "derivative_order_annealing": False}


def both_ways(scatter, dtype, shape=(9, 9, 1), way=3, filters=9, blocks=2, strided=False, **settings):
    def learner(batched_tasks):
        keras.utils.set_random_seed(0)
        model = conv4(shape, way, filters=filters, blocks=blocks, strided=strided, dtype=dtype)
        one = MetaLearner(model, way=way, inner_steps=2, inner_rate=0.3, batched_tasks=batched_tasks, **settings)
        scatter(one.model)
        one.compile(keras.optimizers.SGD(0.1))
        return one

    return learner(False), learner(True)


def assert_equal(learners, tasks, tolerance):
    alone, batched = (tf.function(learner.meta_gradient)(tasks) for learner in learners)
    for a, b in zip(tf.nest.flatten(alone), tf.nest.flatten(batched), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * max(np.abs(a).max(), 1))
    assert max(np.abs(g).max() for g in alone[0]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {**PLUS, "query_statistics": "support"},
        pytest.param({**PLUS, "query_statistics": "running", "strided": True}, marks=pytest.mark.slow),
        pytest.param(presets["maml"], marks=pytest.mark.slow),
        pytest.param({**presets["anil"], "head": "shared", "strided": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_numbers_are_the_same(scatter, make_tasks, settings):
    assert_equal(both_ways(scatter, "float64", **settings), make_tasks(tasks=3, shape=(9, 9, 1)), 1e-12)


@pytest.mark.slow
def test_single_precision_is_no_worse(scatter, make_tasks):
    tasks = make_tasks(tasks=4, way=5, query_shot=1, shape=(28, 28, 1), dtype="float32")
    learners = both_ways(scatter, "float32", (28, 28, 1), way=5, filters=16, blocks=4, **PLUS)
    alone, batched = (tf.function(learner.meta_gradient)(tasks)[0] for learner in learners)
    large = [(a, b) for a, b in zip(alone, batched, strict=True) if np.abs(a).max() > 1e-3]
    assert len(large) > 10
    for a, b in large:
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())


def test_validation_is_the_same(scatter, make_tasks):
    data = tf.data.Dataset.from_tensors(make_tasks(tasks=4, shape=(9, 9, 1)))
    alone, batched = (learner.evaluate(data, verbose=0, return_dict=True) for learner in both_ways(scatter, "float64"))
    assert alone.keys() == batched.keys()
    for name, value in alone.items():
        np.testing.assert_allclose(batched[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.slow_cases("all-dilated 1x1", "all-3x3", "head-3x3")
@pytest.mark.parametrize("settings", [{"dilation_rate": 2}, {"kernel_size": 3}], ids=["dilated 1x1", "3x3"])
@pytest.mark.parametrize("adapted", ["all", "head"])
def test_grouped_convolutions_are_the_same(make_tasks, scatter, settings, adapted):
    def learner(batched_tasks):
        keras.utils.set_random_seed(0)
        stack = [keras.Input((6, 6, 4)), layers.Conv2D(4, **{"kernel_size": 1, "groups": 2, **settings})]
        stack += [layers.BatchNormalization(), layers.Activation("tanh"), layers.GlobalAveragePooling2D()]
        model = scatter(in_float64(keras.Sequential([*stack, layers.Dense(3)])))
        return MetaLearner(model, way=3, inner_steps=2, batched_tasks=batched_tasks, adapted=adapted)

    assert_equal((learner(False), learner(True)), make_tasks(shape=(6, 6, 4)), 1e-12)


def unbatchable(layer, inner_steps):
    model = keras.Sequential([keras.Input((8, 8, 1)), layer, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    return MetaLearner(model, way=3, inner_steps=inner_steps, batched_tasks=True)


class Unknown(keras.layers.Layer):
    """An operation that `tf.vectorized_map` knows nothing of."""

    def call(self, x):
        return x + tf.cast(tf.math.bincount(tf.cast(x[0, 0, 0], tf.int32), minlength=1)[0], x.dtype)


@pytest.mark.parametrize("inner_steps", [1, 2, 3])
@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (lambda: layers.DepthwiseConv2D(3, name="mine"), r"DepthwiseConv2dNative \('(loop_body/)?mine.*'\)"),
        (lambda: layers.Conv2DTranspose(3, 3, name="mine"), r"Conv2D\w* \('(loop_body/)?mine.*'\)"),
        (lambda: Unknown(name="mine"), r"\w*Bincount \('(loop_body/)?mine.*'\)"),
    ],
    ids=["depthwise", "transposed", "unknown"],
)
def test_an_operation_that_cannot_be_batched_is_named_in_one_line(make_tasks, caplog, layer, named, inner_steps):
    learner = unbatchable(layer(), inner_steps)
    with pytest.raises(UserError, match=f"^batched_tasks cannot batch operation {named} of this model: turn it off$"):
        tf.function(learner.meta_gradient, autograph=False)(make_tasks(dtype="float32"))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert not tf.get_logger().filters


def test_a_model_that_cannot_be_copied_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, images):
            return self.dense(images)

    model = Own()
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(UserError, match="copied for batched_tasks: it is subclassed; leave batched_tasks off, or"):
        MetaLearner(model, way=3, batched_tasks=True)


def test_it_contradicts_rematerialisation():
    with pytest.raises(UserError, match="choose one"):
        MetaLearner(conv4((8, 8, 1), 3, filters=2, blocks=1), way=3, batched_tasks=True, rematerialise=True)
