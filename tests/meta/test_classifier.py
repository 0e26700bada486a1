"""Pretraining by classification: one update by hand, and the nearest class mean of tasks by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.classifier import Classifier
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.mlp import mlp


def make_parts(parts=2, pictures=4, classes=7, shape=(8, 8, 1), dtype="float64"):
    generator = np.random.default_rng(0)
    return {
        "support_images": tf.constant(generator.normal(size=(parts, pictures, *shape)), dtype),
        "support_labels": tf.constant(generator.integers(0, classes, (parts, pictures)), tf.int32),
    }


def test_an_update_is_that_of_stock_keras_on_each_part(scatter, smooth_model):
    """Batch norm by stock Keras, its moments of a part alone; loss, weight decay and mean over parts written out."""
    body = scatter(smooth_model(keras.layers.BatchNormalization(dtype="float64")))
    learner = Classifier(body, classes=7, way=3, weight_decay=0.01)
    learner.compile(keras.optimizers.SGD(0.125))  # exact in float32, which Keras keeps it in
    features = keras.Model(body.inputs, body.layers[-1].input)
    stock = keras.models.clone_model(features)
    stock.set_weights(features.get_weights())
    kernel, bias = tf.Variable(learner.kernel), tf.Variable(learner.bias)
    parts = make_parts()
    weights = [v.value for v in stock.trainable_variables] + [kernel, bias]
    with tf.GradientTape() as tape:
        losses = []
        for part in range(2):
            logits = stock(parts["support_images"][part], training=True) @ kernel + bias
            labels = parts["support_labels"][part]
            losses.append(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))
        total = tf.reduce_mean(losses) + 0.01 * tf.add_n([tf.reduce_sum(w**2) / 2 for w in weights])
    expected = [w - 0.125 * g for w, g in zip(weights, tape.gradient(total, weights), strict=True)]
    learner.fit(tf.data.Dataset.from_tensors(parts), epochs=1, verbose=0)
    found = [*learner.model.trainable_variables, learner.kernel, learner.bias]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)


def test_moving_statistics_are_the_mean_of_those_of_the_parts():
    learner = Classifier(conv4((8, 8, 1), 3, filters=2, blocks=1), classes=7, way=3)
    learner.compile("sgd")
    parts = make_parts(dtype="float32")
    outputs = learner.model.get_layer("conv0")(tf.reshape(parts["support_images"], (8, 8, 8, 1)))
    learner.fit(tf.data.Dataset.from_tensors(parts), epochs=1, verbose=0)
    mean = tf.reduce_mean(outputs, (0, 1, 2))  # parts are of one size
    np.testing.assert_allclose(learner.model.get_layer("norm0").moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)


def test_tasks_by_hand(make_tasks, scatter):
    model = scatter(mlp((4,), 3, (5,), dtype="float64"))
    tasks = make_tasks(shape=(4,), shot=2)
    curves = Classifier(model, classes=9, way=3).curves(tasks).numpy()
    assert curves.shape == (2, 1, 6, 3)
    features = [model.get_layer("dense0")(tasks[f"{part}_images"]).numpy() for part in ("support", "query")]
    for task in range(2):
        means = features[0][task].reshape(3, 2, 5).mean(1)
        a, b = features[1][task] - means.mean(0), means - means.mean(0)
        cosines = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
        np.testing.assert_allclose(curves[task, 0], 10 * cosines, rtol=1e-12)


def test_tasks_are_answered_with_moving_statistics(make_tasks):
    learner = Classifier(conv4((8, 8, 1), 3, filters=3, blocks=2), classes=9, way=3)
    tasks = make_tasks(dtype="float32")
    alone = {**tasks, "query_images": tasks["query_images"][:, :1], "query_labels": tasks["query_labels"][:, :1]}
    np.testing.assert_allclose(learner.curves(alone), learner.curves(tasks)[:, :, :1], rtol=1e-5, atol=1e-5)


def test_learns_through_keras(make_tasks):
    learner = Classifier(conv4((8, 8, 1), 3, filters=8, blocks=2), classes=7, way=3, cosine_annealing=True)
    learner.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    data = tf.data.Dataset.from_tensors(make_parts(pictures=16, dtype="float32")).repeat()
    tasks = tf.data.Dataset.from_tensors(make_tasks(dtype="float32"))
    history = learner.fit(data, epochs=2, steps_per_epoch=30, validation_data=tasks, verbose=0).history
    assert history["loss"][1] < 0.1 * history["loss"][0] and history["accuracy"][1] == 1
    assert "val_accuracy" in history


@pytest.mark.slow
def test_it_is_saved_whole(tmp_path):
    learner = Classifier(conv4((8, 8, 1), 3, filters=2, blocks=1), classes=7, way=3, weight_decay=0.01)
    learner.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    data = tf.data.Dataset.from_tensors(make_parts(dtype="float32")).repeat()
    learner.fit(data, steps_per_epoch=1, verbose=0)
    learner.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    for each in (learner, loaded):
        each.fit(data, steps_per_epoch=2, epochs=1, verbose=0)
    for a, b in zip(learner.trainable_variables, loaded.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
