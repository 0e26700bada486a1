"""Fixtures to check a network's meta-gradient against finite differences in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import presets


@pytest.fixture(scope="session")
def plus_learner():
    """MAML++ of second order for a model of three outputs: plus_learner(model)."""
    settings = {**presets["maml++"], "derivative_order_annealing": False}
    return lambda model: MetaLearner(model, way=3, inner_steps=2, inner_rate=0.1, **settings)


@pytest.fixture(scope="session")
def worst_deviation():
    """Of derivatives along random directions in which every tensor moves alike: worst_deviation(learner, tasks)."""

    def measure(learner, tasks, directions=2, steps=(1e-4, 1e-5, 1e-6)):
        compute = tf.function(learner.meta_gradient)
        generator = np.random.default_rng(1)
        variables = learner.trainable_variables
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

    return measure
