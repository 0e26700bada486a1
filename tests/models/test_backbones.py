"""Meta-gradients of every backbone against finite differences in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.gradient_check import check_meta_gradient, in_float64
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.by_name import application
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.resnet12 import resnet12

PLUS = {**presets["maml++"], "derivative_order_annealing": False}


def worst_deviation(learner, tasks, directions=2, steps=(1e-4, 1e-5, 1e-6), scatter=0.0):
    """Of derivatives along random directions in which every tensor moves alike; relative."""
    compute = tf.function(learner.meta_gradient)
    generator = np.random.default_rng(1)
    variables = learner.trainable_variables
    for v in variables:
        v.assign(v.numpy() + scatter * generator.normal(size=v.shape))
    gradients = [g.numpy() for g in compute(tasks)[0]]
    starts = [v.numpy() for v in variables]
    deviations = []
    for _ in range(directions):
        # The component along the gradient keeps what is compared large beside what rounding adds.
        moves = [generator.normal(size=g.shape) for g in gradients]
        moves = [
            m / np.linalg.norm(m) + g / max(np.linalg.norm(g), 1e-9) for m, g in zip(moves, gradients, strict=True)
        ]
        along = sum(np.sum(m * g) for m, g in zip(moves, gradients, strict=True))
        found = []
        for h in steps:
            ends = []
            for sign in (1, -1):
                for v, start, move in zip(variables, starts, moves, strict=True):
                    v.assign(start + sign * h * move)
                ends.append(float(compute(tasks)[2]["meta_loss"]))
            found.append(abs((ends[0] - ends[1]) / (2 * h) - along) / abs(along))
        deviations.append(min(found))
    return max(deviations)


def sequential_mlp(shape, way, dtype):
    stack = [keras.Input(shape, dtype=dtype), keras.layers.Flatten(dtype=dtype)]
    stack += [keras.layers.Dense(n, a, dtype=dtype) for n, a in ((6, "relu"), (5, "gelu"), (way, None))]
    return keras.Sequential(stack)


@pytest.mark.parametrize(
    "model",
    [
        lambda shape: conv4(shape, 3, filters=3, blocks=3, dtype="float64"),
        lambda shape: conv4(shape, 3, filters=3, blocks=3, strided=True, dtype="float64"),
        lambda shape: resnet12(shape, 3, widths=(2, 3), dtype="float64"),
        lambda shape: sequential_mlp(shape, 3, "float64"),
    ],
    ids=["conv4", "conv4 strided", "resnet12", "mlp"],
)
def test_finite_differences(make_tasks, model):
    learner = MetaLearner(model((8, 8, 1)), way=3, inner_steps=2, inner_rate=0.1, **PLUS)
    assert worst_deviation(learner, make_tasks(tasks=1)) < 1e-6


def test_the_self_check_passes_a_strided_network(make_tasks):
    model = conv4((8, 8, 1), 3, filters=2, blocks=1, strided=True)
    assert max(check_meta_gradient(model, make_tasks(tasks=1), way=3, inner_steps=2).values()) < 1e-6


def smoothed(model):
    """A copy without kinks.  In the real network half a million of them leave finite differences no room."""
    smooth = {keras.layers.ReLU: "softplus", keras.layers.Activation: "silu"}

    def copy(layer):
        if type(layer) in smooth:
            return keras.layers.Activation(smooth[type(layer)], name=layer.name, dtype="float64")
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=copy)


@pytest.mark.slow
def test_finite_differences_of_a_network_of_keras_applications(make_tasks):
    model = smoothed(in_float64(application("MobileNetV3Small", (96, 96, 3), 3)))
    learner = MetaLearner(model, way=3, inner_steps=1, inner_rate=0.01)
    tasks = make_tasks(tasks=1, query_shot=1, shape=(96, 96, 3))
    assert worst_deviation(learner, tasks, directions=1, steps=(1e-6, 1e-7)) < 1e-6
