"""Heads that each task starts by itself: by hand, against finite differences, and with any number of classes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.evaluation import evaluate
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.mlp import mlp

L = keras.layers
PLUS = {**presets["maml++"], "derivative_order_annealing": False}
TEMPERATURES = {"shared": 1.0, "prototypes": 4.0}
BOTH = pytest.mark.parametrize("head", ["shared", "prototypes"])


def learner_of(model, scatter=None, **settings):
    learner = MetaLearner(model, **{"way": 3, "inner_steps": 2, "inner_rate": 0.1, **settings})
    if scatter:  # from zero, so that all learners of one network are alike
        for v in learner.model.trainable_variables:
            v.assign(tf.zeros_like(v))
        scatter(learner.model)
    return learner


def start_by_hand(head, kernel, bias, features, labels, way):
    if head == "shared":
        return tf.repeat(kernel[:, :1], way, 1), tf.repeat(bias[:1], way)
    p = tf.stack([tf.reduce_mean(features[labels == c], 0) for c in range(way)])
    return 2 * tf.transpose(p) / TEMPERATURES[head], -tf.reduce_sum(p**2, 1) / TEMPERATURES[head]


def loss_by_hand(head, weights, task, way, steps, rate):
    """MAML of a network of one hidden layer, written out; returns query logits after each step, and the last loss."""
    w, b, kernel, bias = weights

    def features(w, b, x):
        return tf.tanh(x @ w + b)

    labels = task["support_labels"].numpy()
    kernel, bias = start_by_hand(head, kernel, bias, features(w, b, task["support_images"]), labels, way)
    theta, logits = [w, b, kernel, bias], []
    for step in range(steps + 1):
        w, b, kernel, bias = theta
        logits.append(features(w, b, task["query_images"]) @ kernel + bias)
        if step < steps:
            with tf.GradientTape() as tape:
                tape.watch(theta)
                outputs = features(w, b, task["support_images"]) @ kernel + bias
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs))
            theta = [t - rate * g for t, g in zip(theta, tape.gradient(loss, theta), strict=True)]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(task["query_labels"], logits[-1])
    return tf.stack(logits), tf.reduce_mean(losses)


@BOTH
@pytest.mark.parametrize("way", [3, 5])
def test_a_loop_written_by_hand(head, way, make_tasks, scatter):
    model = keras.Sequential([keras.Input((4,), dtype="float64"), L.Dense(5, "tanh"), L.Dense(3)])
    for layer in model.layers:
        layer.dtype_policy = "float64"
    model = keras.Sequential.from_config(model.get_config())
    learner = learner_of(model, scatter, head=head, inner_rate=0.3, temperature=TEMPERATURES[head])
    tasks = make_tasks(way=way, shape=(4,), shot=2)
    weights = [tf.identity(v) for v in learner.model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        found = [loss_by_hand(head, weights, {k: v[i] for k, v in tasks.items()}, way, 2, 0.3) for i in range(2)]
        loss = (found[0][1] + found[1][1]) / 2
    expected = tape.gradient(loss, weights, unconnected_gradients="zero")
    np.testing.assert_allclose(learner.curves(tasks), tf.stack([logits for logits, _ in found]), atol=1e-12)
    gradients, _, metrics = tf.function(learner.meta_gradient)(tasks)
    assert float(metrics["meta_loss"]) == pytest.approx(float(loss), abs=1e-12)
    for found_gradient, by_hand in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found_gradient, by_hand, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {**PLUS, "head": "prototypes"},
        {**presets["anil"], "head": "prototypes", "query_statistics": "support", "temperature": 4.0},
        pytest.param({**PLUS, "head": "shared", "query_statistics": "running"}, marks=pytest.mark.slow),
        pytest.param({**PLUS, "head": "prototypes", "rematerialise": True}, marks=pytest.mark.slow),
        pytest.param({**PLUS, "head": "prototypes", "batched_tasks": True}, marks=pytest.mark.slow),
        pytest.param({**PLUS, "head": "shared", "batched_tasks": True}, marks=pytest.mark.slow),
    ],
)
def test_finite_differences_of_other_numbers_of_classes(
    smooth_model, scatter, make_tasks, meta_gradient_errors, settings
):
    learner = learner_of(smooth_model(), scatter, **settings)
    errors = meta_gradient_errors(learner, make_tasks(way=4))
    assert max(errors.values()) < 1e-6, errors


def test_without_a_step_prototypes_answer_as_prototypical_networks(make_tasks, scatter):
    model = scatter(mlp((4,), 3, (5,), dtype="float64"))
    tasks = make_tasks(way=4, shape=(4,), shot=2)
    logits = learner_of(model, head="prototypes", temperature=4.0).curves(tasks)[:, 0]
    expected = PrototypicalNetworks(model, way=3, temperature=4.0).curves(tasks)[:, 0]
    np.testing.assert_allclose(tf.nn.softmax(logits), tf.nn.softmax(expected), atol=1e-12)


@BOTH
def test_the_order_of_classes_does_not_matter(head, make_tasks, scatter):
    learner, tasks = learner_of(mlp((4,), 3, (5,), dtype="float64"), scatter, head=head), make_tasks(shape=(4,))
    turned = learner.curves({**tasks, "support_labels": (tasks["support_labels"] + 1) % 3})
    np.testing.assert_allclose(tf.roll(turned, -1, -1), learner.curves(tasks), atol=1e-12)


def test_a_free_shared_head_is_the_models_own(make_tasks, scatter, monkeypatch, smooth_model):
    """The last layer apart from the rest gives what the whole model gives."""
    tasks, found = make_tasks(dtype="float32"), []
    for whole in (False, True):
        if whole:
            monkeypatch.setattr("tf_mamlpp.meta.heads.dense_end", lambda model: None)
        learner = learner_of(smooth_model(dtype="float32"), scatter, **{**PLUS, "head": "shared"})
        assert learner.any_way == (not whole)
        gradients, state, _ = tf.function(learner.meta_gradient)(tasks)
        found.append([learner.curves(tasks).numpy(), *map(np.asarray, gradients), *map(np.asarray, state)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def regularised():
    regulariser = keras.regularizers.L2(0.1)
    layers = [keras.Input((4,)), L.Dense(5, "tanh"), L.Dense(3, kernel_regularizer=regulariser)]
    return keras.Sequential(layers)


def test_the_heads_regulariser_counts(make_tasks):
    learner = learner_of(regularised(), head="shared")
    learner.compile("sgd")
    tasks = make_tasks(shape=(4,), dtype="float32")
    state = learner.functional_model.state
    one = {name: value[0] for name, value in tasks.items()} | {"way": tf.constant(3)}
    start, _ = learner.functional_model.begin(one, state)
    _, _, added = learner.functional_model.outputs(start, state, one["query_images"], 0, statistics="batch")
    assert float(added) == pytest.approx(0.1 * float(tf.reduce_sum(start[2] ** 2)), rel=1e-6)


@pytest.mark.parametrize("head", [pytest.param("shared", marks=pytest.mark.slow), "prototypes"])
def test_the_number_of_classes_changes_from_meta_batch_to_meta_batch(head, make_tasks):
    learner = learner_of(mlp((4,), 3, (8,)), head=head, inner_rate=0.05)
    learner.compile(keras.optimizers.Adam(1e-2))
    batches = [make_tasks(way=way, shot=shot, shape=(4,), dtype="float32") for way, shot in ((3, 1), (5, 2), (2, 1))]
    history = learner.fit(batches, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    values = [evaluate(learner, [batch]).per_task for batch in batches]
    np.testing.assert_array_equal(evaluate(learner, batches).per_task, np.concatenate(values))
    two = [lambda: None, lambda: None]
    np.testing.assert_array_equal(evaluate(learner, batches, members=two).per_task, np.concatenate(values))
    assert float(learner.evaluate(batches, return_dict=True, verbose=0)["accuracy"]) == pytest.approx(
        np.mean([v[:, -1].mean() for v in values])
    )
    assert learner.predict(batches[1], verbose=0).shape == (2, 10, 5)


@BOTH
def test_adapt_with_classes_of_unequal_numbers_of_pictures(head, make_tasks, tmp_path):
    learner = learner_of(mlp((4,), 3, (8,)), head=head)
    inputs = make_tasks(way=6, shape=(4,), dtype="float32")["support_images"][0]
    labels = [0, 1, 2, 3, 3, 0]
    adapted = learner.adapt(inputs, labels)
    expected = learner.predict_adapted(adapted, inputs)
    assert expected.shape == (6, 4)
    model = learner.adapted_model(adapted)
    np.testing.assert_allclose(tf.nn.softmax(model(inputs)), expected, atol=1e-6)
    model.save(tmp_path / "four.keras")
    assert keras.models.load_model(tmp_path / "four.keras").output_shape == (None, 4)


def test_labels_as_rows(make_tasks, scatter):
    tasks = make_tasks(way=4, shape=(4,))
    learner = learner_of(mlp((4,), 3, (5,), dtype="float64"), scatter, head="prototypes")
    rows = learner_of(mlp((4,), 3, (5,), dtype="float64"), scatter, head="prototypes", loss="categorical_crossentropy")
    one_hot = {**tasks} | {f"{s}_labels": tf.one_hot(tasks[f"{s}_labels"], 4) for s in ("support", "query")}
    np.testing.assert_allclose(rows.curves(one_hot), learner.curves(tasks), atol=1e-12)
    found, expected = rows.meta_gradient(one_hot)[0], learner.meta_gradient(tasks)[0]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_a_softmax_at_the_end(make_tasks, scatter):
    def net(activation):
        layers = [keras.Input((4,)), L.Dense(5, "tanh"), L.Dense(3, activation)]
        return keras.Sequential(layers)

    tasks = make_tasks(way=4, shape=(4,), dtype="float32")
    logits, probabilities = (
        learner_of(net(activation), scatter, head="prototypes").curves(tasks) for activation in (None, "softmax")
    )
    np.testing.assert_allclose(tf.nn.softmax(logits), probabilities, atol=1e-5)


def test_dropout_of_the_body_in_training_only(make_tasks):
    layers = [keras.Input((4,)), L.Dense(32, "tanh"), L.Dropout(0.5), L.Dense(3)]
    learner = learner_of(keras.Sequential(layers), head="prototypes")
    learner.compile("sgd")
    tasks = make_tasks(shape=(4,), dtype="float32")
    np.testing.assert_array_equal(learner.curves(tasks), learner.curves(tasks))
    losses = {float(learner.meta_gradient(tasks)[2]["loss"]) for _ in range(2)}
    assert len(losses) == 1  # a pure function of the state
    learner.train_on_batch(tasks)  # the seeds move on
    assert float(learner.meta_gradient(tasks)[2]["loss"]) not in losses


@pytest.mark.parametrize("head", [pytest.param("shared", marks=pytest.mark.slow), "prototypes"])
def test_a_learner_is_saved_with_its_head(head, make_tasks, tmp_path, scatter):
    learner = learner_of(mlp((4,), 3, (5,)), scatter, head=head)
    learner.compile("adam")
    tasks = make_tasks(way=5, shape=(4,), dtype="float32")
    learner.fit([tasks], verbose=0)
    learner.save(tmp_path / "learner.keras")
    loaded = keras.models.load_model(tmp_path / "learner.keras")
    assert loaded.settings.head == head and loaded.any_way
    np.testing.assert_array_equal(loaded.curves(tasks), learner.curves(tasks))


def test_a_layer_of_ones_own_that_is_called_dense_is_not_taken_for_keras_own():
    class Dense(L.Dense):
        def call(self, x):
            return 2 * super().call(x)

    net = keras.Sequential([keras.Input((4,)), L.Dense(5), Dense(3)])
    assert not learner_of(net, head="shared").any_way
    with pytest.raises(UserError, match="plain Dense layer"):
        learner_of(net, head="prototypes")


def test_a_head_of_convolutions_keeps_its_number_of_classes(make_tasks):
    layers = [keras.Input((4, 4, 1)), L.Conv2D(2, 3), L.Conv2D(3, 2), L.Flatten()]
    learner = learner_of(keras.Sequential(layers), head="shared")
    assert not learner.any_way
    with pytest.raises(UserError, match="head=prototypes needs a .* model that ends in a plain Dense layer"):
        learner_of(keras.Sequential(layers), head="prototypes")


def test_what_prototypes_need():
    with pytest.raises(UserError, match="plain Dense layer with a bias, which model 'net' does not"):
        learner_of(keras.Sequential([keras.Input((4,)), L.Dense(3, use_bias=False)], name="net"), head="prototypes")
    with pytest.raises(UserError, match=r"features of shape \(None, 4, 2\) before its last layer"):
        learner_of(keras.Sequential([keras.Input((4, 2)), L.Dense(3)], name="net"), head="prototypes")
    with pytest.raises(UserError, match="head is one of learned, shared, prototypes, not 'best'"):
        learner_of(mlp((4,), 3, (5,)), head="best")
    with pytest.raises(UserError, match="head=prototypes needs the inner loop to adapt the head"):
        learner_of(mlp((4,), 3, (5,)), head="prototypes", adapted="body")


@BOTH
def test_labels_that_are_no_classes(head, make_tasks):
    learner = learner_of(mlp((4,), 3, (5,)), head=head)
    tasks = make_tasks(shape=(4,), dtype="float32")
    with pytest.raises(UserError, match="support_labels has the label 3 and none of class 1: number classes from 0"):
        learner.adapt(tasks["support_images"][0], [0, 3, 0])
    with pytest.raises(UserError, match="support_labels has the label -1"):
        learner.adapt(tasks["support_images"][0], [0, 1, -1])
    wrong = {**tasks, "query_labels": tasks["query_labels"] + 1}
    with pytest.raises(UserError, match="query_labels has the label 3: those of a 3-way task are 0 to 2"):
        evaluate(learner, [wrong])


def test_a_class_without_pictures_is_never_the_answer(make_tasks):
    """In a graph nobody looks at the labels: there is a bias for it."""
    learner = learner_of(mlp((4,), 3, (5,)), head="prototypes")
    tasks = make_tasks(shape=(4,), dtype="float32")
    tasks["support_labels"] = tasks["support_labels"] * 2  # classes 0, 2, 4
    answers = tf.nn.softmax(learner.curves(tasks)).numpy()
    assert answers.shape[-1] == 5 and answers[..., [1, 3]].max() == 0 and np.isfinite(answers).all()
