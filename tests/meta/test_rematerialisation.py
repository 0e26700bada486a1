"""Rematerialised inner steps give the numbers of kept ones, from a graph that does not grow with them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.rematerialisation import recomputed_loop
from tf_mamlpp.meta.settings import presets

PLUS = {**presets["maml++"], "derivative_order_annealing": False}


@pytest.fixture
def both_ways(smooth_model, scatter):
    def make(*extra, **settings):
        def learner(rematerialise):
            keras.utils.set_random_seed(0)
            settings_of_both = {"way": 3, "inner_steps": 3, "inner_rate": 0.3, **settings}
            one = MetaLearner(smooth_model(*extra), rematerialise=rematerialise, **settings_of_both)
            scatter(one.model)
            return one

        return learner(False), learner(True)

    return make


def assert_equal(learners, tasks):
    kept, again = (tf.function(learner.meta_gradient)(tasks) for learner in learners)
    for part in (0, 1):
        for a, b in zip(kept[part], again[part], strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * max(np.abs(a).max(), 1))
    assert max(np.abs(g).max() for g in kept[0]) > 1e-3
    for name, value in kept[2].items():
        np.testing.assert_allclose(again[2][name], value, rtol=1e-13)


@pytest.mark.parametrize(
    "settings",
    [
        presets["maml"],
        *(
            pytest.param(settings, marks=pytest.mark.slow)
            for settings in (
                {**PLUS, "query_statistics": "running"},
                {**PLUS, "query_statistics": "support"},
                {**presets["meta-sgd"], "learned_rates": True},
                {**PLUS, "query_statistics": "batch"},
                {**presets["maml"], "multi_step_loss": True, "query_statistics": "running"},
                {**presets["maml"], "adapted": "body", "query_statistics": "support"},
                {**presets["anil"], "head": "shared", "multi_step_loss": True},
                {**presets["fomaml"], "multi_step_loss": True},
            )
        ),
    ],
    ids=str,
)
def test_numbers_are_the_same(both_ways, make_tasks, settings):
    assert_equal(both_ways(**settings), make_tasks())


@pytest.mark.slow
def test_after_the_multi_step_loss(both_ways, make_tasks):
    learners = both_ways(**PLUS)
    for learner in learners:
        learner.set_epoch(10)
        assert not learner.phase.all_steps
    assert_equal(learners, make_tasks())


@pytest.mark.slow
def test_dropout_drops_the_same_units_again(both_ways, make_tasks):
    assert_equal(both_ways(keras.layers.Dropout(0.5, seed=3, dtype="float64"), **PLUS), make_tasks())


@pytest.mark.slow
def test_one_step_has_nothing_to_compute_again(both_ways, make_tasks):
    assert_equal(both_ways(inner_steps=1), make_tasks())


@pytest.mark.slow
def test_the_graph_does_not_grow_with_the_steps(both_ways, make_tasks):
    def nodes(learner):
        graph = tf.function(learner.meta_gradient).get_concrete_function(make_tasks()).graph.as_graph_def()
        return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)

    few, many = (both_ways(inner_steps=n, **PLUS) for n in (3, 9))
    for less, more in zip(few, many, strict=True):
        assert nodes(more) < 1.05 * nodes(less)


def test_a_loop_of_any_kind():
    """x_{k+1} = a x_k + k, loss x_{k+1}^2: derivatives by the plain loop."""

    def step(carried, constants, k):
        x, count = carried
        x = constants["a"] * x + tf.cast(k, x.dtype)
        return (x, count + 1), tf.reduce_sum(x**2)

    x, a = tf.constant([1.0, -2.0], tf.float64), tf.constant([0.5, 1.5], tf.float64)

    @tf.function
    def run(again):
        with tf.GradientTape() as tape:
            tape.watch([x, a])
            carried, losses = (x, tf.constant(0)), []
            if again:
                carried, losses = recomputed_loop(step, 4, carried, {"a": a})
            else:
                for k in range(4):
                    carried, loss = step(carried, {"a": a}, k)
                    losses.append(loss)
            total = tf.reduce_sum(tf.stack(losses) * [1.0, 2.0, 3.0, 4.0]) + tf.reduce_sum(carried[0] ** 3)
        return carried, tf.stack(losses), tape.gradient(total, [x, a])

    for plain, again in zip(tf.nest.flatten(run(False)), tf.nest.flatten(run(True)), strict=True):
        np.testing.assert_allclose(again, plain, rtol=1e-14)
