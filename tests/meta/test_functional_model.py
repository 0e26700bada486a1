"""Passes through a model: which states they move, and the seeds of tasks."""

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.meta.functional_model import with_task_seeds
from tf_mamlpp.meta.meta_learner import MetaLearner


def test_support_statistics_move_seeds_and_leave_moving_statistics(smooth_model, make_tasks):
    dropout = keras.layers.Dropout(0.5, seed=1, dtype="float64")
    passes = MetaLearner(smooth_model(dropout), way=3).functional_model
    task = {k: v[0] for k, v in make_tasks().items()}
    states, answers = [passes.state], []
    for _ in range(2):
        settings = {"statistics": "support", "training": True}
        outputs, state, _ = passes.query_outputs(passes.fast(passes.start), states[-1], task, 0, **settings)
        answers.append(outputs.numpy())
        states.append(state)
    assert np.abs(answers[0] - answers[1]).max() > 0
    for *values, kind in zip(*states, [s.dtype for s in states[0]], strict=True):
        assert len({v.numpy().tobytes() for v in values}) == (3 if kind.is_integer else 1)


def test_each_task_has_seeds_of_its_own():
    dropout = keras.layers.Dropout(0.5, seed=1)
    dropout.build((4, 64))
    moving, seed = tf.ones(2), tf.convert_to_tensor(dropout.seed_generator.state)
    masks = []
    for task in range(3):
        kept, own = with_task_seeds([moving, seed], tf.constant(task))
        assert kept is moving
        out, _ = dropout.stateless_call([], [own], tf.ones((4, 64)), training=True)
        masks.append(out.numpy())
    for a, b in zip(
        with_task_seeds(with_task_seeds([moving, seed], tf.constant(7)), tf.constant(-7)), [moving, seed], strict=True
    ):
        np.testing.assert_array_equal(a, b)
    plain, _ = dropout.stateless_call([], [seed], tf.ones((4, 64)), training=True)
    np.testing.assert_array_equal(masks[0], plain)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert 0.3 < np.mean(masks[a] != masks[b]) < 0.7
