"""An embedding's gradient has the rows that were looked up alone: it is as right as any other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner


@pytest.mark.parametrize("settings", [{}, {"adapted": "head"}], ids=["all", "head"])
def test_finite_differences_of_an_embedding(settings, meta_gradient_errors):
    words = keras.Input((5,), dtype="int32")
    mean = keras.layers.GlobalAveragePooling1D(dtype="float64")(keras.layers.Embedding(8, 4, dtype="float64")(words))
    learner = MetaLearner(
        keras.Model(words, keras.layers.Dense(2, dtype="float64")(mean)),
        way=2,
        inner_rate=1.0,
        inner_steps=2,
        **settings,
    )
    generator = np.random.default_rng(0)
    labels = tf.constant(np.tile([0, 1], (2, 2)).astype("int32"))
    tasks = {"support_labels": labels, "query_labels": labels}
    for part in ("support", "query"):
        tasks[f"{part}_images"] = tf.constant(generator.integers(0, 8, (2, 4, 5)).astype("int32"))
    for v in learner.model.trainable_variables:
        v.assign(generator.normal(size=v.shape))
    errors = meta_gradient_errors(learner, tasks)
    assert len(errors) == 3
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow
def test_rematerialised_in_a_graph():
    words = keras.Input((5,), dtype="int32")
    mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(8, 4)(words))
    model = keras.Model(words, keras.layers.Dense(2)(mean))
    tasks = {"support_labels": [[0, 1]], "query_labels": [[0, 1]]}
    for part in ("support", "query"):
        tasks[f"{part}_images"] = np.random.default_rng(0).integers(0, 8, (1, 2, 5)).astype("int32")
    data = tf.data.Dataset.from_tensors(tasks)
    losses = []
    for rematerialise in (False, True):
        learner = MetaLearner(keras.models.clone_model(model), way=2, inner_steps=2, rematerialise=rematerialise)
        learner.model.set_weights(model.get_weights())
        learner.compile(keras.optimizers.SGD(0.5))
        learner.fit(data, verbose=0)
        losses.append(float(learner.evaluate(data, verbose=0, return_dict=True)["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
