"""Weights that are frozen one by one stay frozen in every copy of the model, and in both loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.deploy.litert.layers import differentiable_copy
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.meta.gradient_check import check_meta_gradient, in_float64
from tf_mamlpp.meta.meta_learner import MetaLearner

layers = keras.layers


@pytest.fixture
def model():
    inner = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(2, 3, name="inner"), layers.ReLU()], name="nested")
    stack = [keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="conv"), layers.BatchNormalization(name="norm"), inner]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(3, name="dense")], name="mine")
    model.get_layer("conv").kernel.trainable = False
    model.get_layer("norm").gamma.trainable = False
    inner.get_layer("inner").bias.trainable = False
    return model


def paths(variables):
    return ["/".join(v.path.split("/")[-2:]) for v in variables]


@pytest.mark.slow_cases("LiteRT")
@pytest.mark.parametrize(
    "copy",
    [
        lambda model: convert_normalization(model, 2),
        lambda model: convert_normalization(model, 2, batched_tasks=True),
        in_float64,
        lambda model: differentiable_copy(convert_normalization(model, 2)),
    ],
    ids=["converted", "batched", "float64", "LiteRT"],
)
def test_copies_keep_them_frozen(model, copy):
    kept = ["conv/bias", "norm/beta", "inner/kernel", "dense/kernel", "dense/bias"]
    assert paths(copy(model).trainable_variables) == paths(model.trainable_variables) == kept
    model.trainable = False
    assert not copy(model).trainable_variables
    with pytest.raises(UserError, match="'mine' is frozen"):
        MetaLearner(model, way=3)


@pytest.mark.slow
def test_both_loops_leave_them_alone(model, make_tasks):
    learner = MetaLearner(model, way=3, inner_steps=2)
    assert [p for p in paths(learner.model.variables) if p in ("conv/kernel", "norm/gamma", "inner/bias")]
    assert not {"conv/kernel", "norm/gamma", "inner/bias"} & set(paths(learner.trainable_variables))
    before = {v.path: v.numpy() for v in learner.model.variables}
    learner.compile(keras.optimizers.SGD(0.1))
    learner.fit(tf.data.Dataset.from_tensors(make_tasks(dtype="float32")), verbose=0)
    changed = {path for path, value in before.items() if np.any(value != _named(learner.model, path))}
    assert {p for p in paths(learner.model.variables) if p not in {"/".join(c.split("/")[-2:]) for c in changed}} == {
        "conv/kernel",
        "norm/gamma",
        "inner/bias",
    }


def _named(model, path):
    return next(v.numpy() for v in model.variables if v.path == path)


@pytest.mark.slow
def test_the_meta_gradient_is_exact_with_them(model, make_tasks):
    deviations = check_meta_gradient(model, make_tasks(), way=3, inner_steps=1, tolerance=1e-4)
    assert not any(path.endswith(("conv/kernel", "norm/gamma")) for path in deviations)
