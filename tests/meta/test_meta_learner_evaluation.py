"""Evaluating and using a `MetaLearner`: curves, `adapt`, `predict_adapted`; nothing of the model is written."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner

STATISTICS = pytest.mark.parametrize("statistics", ["batch", "running", "support"])


@pytest.fixture
def make_learner(smooth_model, scatter):
    """A learner whose rates and per-step rows all differ."""

    def make(*extra, **settings):
        keras.utils.set_random_seed(0)
        rows = {"per_step_weights": True, "per_step_statistics": True}
        learner = MetaLearner(smooth_model(*extra), **{"way": 3, "inner_steps": 2, **rows, **settings})
        scatter(learner.model)
        scatter(learner.inner_rates)
        return learner

    return make


def support(tasks, index=0):
    return tasks["support_images"][index], tasks["support_labels"][index]


@pytest.mark.slow
@STATISTICS
def test_nothing_of_the_model_is_written(make_learner, make_tasks, statistics):
    learner = make_learner(keras.layers.Dropout(0.5, dtype="float64"), evaluation_statistics=statistics)
    learner.compile("sgd")
    variables = [*learner.model.variables, learner.inner_rates.table, learner.loss_weights]
    variables += learner.optimizer.variables
    before = [v.numpy() for v in variables]
    tasks = make_tasks()
    learner.evaluate(tf.data.Dataset.from_tensors(tasks), verbose=0)
    learner.test_step(tasks)
    learner.curves(tasks)
    state = learner.adapt(*support(tasks), query_statistics=statistics)
    learner.predict_adapted(state, tasks["query_images"][0])
    for v, old in zip(variables, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), old, err_msg=v.path)


@STATISTICS
@pytest.mark.parametrize("steps", [None, 0, 1, 3])
def test_adapt_then_predict_is_the_end_of_the_curve(make_learner, make_tasks, statistics, steps):
    learner, tasks = make_learner(), make_tasks()
    curves = learner.curves(tasks, steps, statistics)
    assert curves.shape == (2, 1 + (2 if steps is None else steps), 6, 3)
    for i in range(2):
        state = learner.adapt(*support(tasks, i), steps, statistics)
        probabilities = learner.predict_adapted(state, tasks["query_images"][i])
        np.testing.assert_allclose(probabilities, tf.nn.softmax(curves[i, -1]), rtol=0, atol=1e-12)


@STATISTICS
def test_only_batch_statistics_look_at_the_neighbours(make_learner, make_tasks, statistics):
    learner, tasks = make_learner(), make_tasks()
    state = learner.adapt(*support(tasks), query_statistics=statistics)
    images = tasks["query_images"][0]
    together = learner.predict_adapted(state, images)
    alone = tf.concat([learner.predict_adapted(state, images[i : i + 1]) for i in range(len(images))], 0)
    difference = np.abs(together - alone).max()
    assert difference > 1e-3 if statistics == "batch" else difference < 1e-13


def test_the_curve_starts_with_the_model_as_it_is(make_learner, make_tasks):
    learner, tasks = make_learner(inner_steps=1), make_tasks()
    for i in range(2):
        expected = learner.model(tasks["query_images"][i])
        np.testing.assert_allclose(learner.curves(tasks, 2, "running")[i, 0], expected, rtol=0, atol=1e-12)


@STATISTICS
def test_fewer_steps_are_the_start_of_the_curve(make_learner, make_tasks, statistics):
    learner, tasks = make_learner(inner_steps=3), make_tasks()
    whole = learner.curves(tasks, query_statistics=statistics)
    np.testing.assert_allclose(learner.curves(tasks, 1, statistics), whole[:, :2], rtol=0, atol=1e-13)


@pytest.mark.slow_cases("support")
@STATISTICS
def test_more_steps_reuse_the_last_rates_and_rows(make_learner, make_tasks, statistics):
    short, long, tasks = make_learner(inner_steps=2), make_learner(inner_steps=4), make_tasks()
    tables = [(short.inner_rates.table, long.inner_rates.table, 1)]
    tables += [(a, b, 0) for a, b in zip(short.model.variables, long.model.variables, strict=True)]
    for a, b, axis in tables:
        value = a.numpy()
        if a.shape != b.shape:
            value = np.take(value, [0, 1, 1, 1], axis)
        b.assign(value)
    expected = long.curves(tasks, query_statistics=statistics)
    np.testing.assert_allclose(short.curves(tasks, 4, statistics), expected, rtol=0, atol=1e-13)


@STATISTICS
def test_test_step_measures_the_curve(make_learner, make_tasks, statistics):
    learner, tasks = make_learner(evaluation_statistics=statistics), make_tasks(tasks=4)
    learner.compile("sgd")
    curves = learner.curves(tasks, query_statistics=statistics).numpy()
    numbers = learner.test_step(tasks)
    right = curves.argmax(-1) == tasks["query_labels"].numpy()[:, None]
    for k in range(3):
        assert float(numbers[f"step_{k}"]) == pytest.approx(right[:, k].mean(), abs=1e-6)
    assert numbers["accuracy"] == numbers["step_2"]
    log = np.log(tf.nn.softmax(curves[:, -1]))
    loss = -np.take_along_axis(log, tasks["query_labels"].numpy()[..., None], 2).mean()
    assert float(numbers["loss"]) == pytest.approx(loss, rel=1e-6)


@pytest.mark.slow
def test_evaluate_averages_over_meta_batches(make_learner, make_tasks):
    learner = make_learner()
    learner.compile("sgd")
    tasks = make_tasks(tasks=6)
    whole = learner.evaluate(tf.data.Dataset.from_tensors(tasks), verbose=0, return_dict=True)
    parts = learner.evaluate(tf.data.Dataset.from_tensor_slices(tasks).batch(2), verbose=0, return_dict=True)
    assert whole == pytest.approx(parts, rel=1e-6)


def test_anil_adapts_the_head_alone(make_learner, make_tasks):
    learner = make_learner(adapted="head")
    state = learner.adapt(*support(make_tasks()))
    moved = [
        v.path.split("/", 1)[1]
        for v, w in zip(learner.model.trainable_variables, state.weights, strict=True)
        if (v.numpy() != w.numpy()).any()
    ]
    assert moved == ["dense/kernel", "dense/bias"] == [path.split("/", 1)[1] for path in learner.adapted_paths]
    assert learner.inner_rates.table.shape == (2, 2)


def test_evaluation_statistics_default_to_those_of_training(make_learner):
    assert make_learner(query_statistics="support").evaluation_statistics == "support"
    assert make_learner(query_statistics="support", evaluation_statistics="batch").evaluation_statistics == "batch"


def test_a_stream_of_tasks_is_traced_once(make_tasks, smooth_model, monkeypatch):
    """Other numbers of pictures are not traced again."""
    learner = MetaLearner(smooth_model(), way=3, inner_steps=1)
    traces = []
    for name in ("adapt", "outputs"):
        function = getattr(learner.functional_model, name)
        monkeypatch.setattr(
            learner.functional_model, name, lambda *a, f=function, n=name, **k: traces.append(n) or f(*a, **k)
        )
    after_first = None
    for shot, query_shot in ((1, 2), (2, 2), (2, 1), (3, 5)):
        task = make_tasks(tasks=1, shot=shot, query_shot=query_shot)
        adapted = learner.adapt(task["support_images"][0], task["support_labels"][0])
        assert learner.predict_adapted(adapted, task["query_images"][0]).shape == (3 * query_shot, 3)
        after_first = after_first or len(traces)
    assert traces.count("adapt") == 1 and len(traces) == after_first
