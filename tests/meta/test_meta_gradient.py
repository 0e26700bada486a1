"""`MetaLearner.meta_gradient` against finite differences in float64 and against gradients taken by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta import multi_step_loss
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.mlp import mlp

PLUS = {**presets["maml++"], "derivative_order_annealing": False}
KINKS = (1e-4, 1e-5, 1e-6, 1e-7)  # a difference that steps over a kink is wrong at most lengths but the short ones


def learner_of(model, scatter=None, **settings):
    settings = {"way": 3, "inner_steps": 2, "inner_rate": 0.3, **settings}
    learner = MetaLearner(model, **settings)
    if scatter:
        scatter(learner.model)
    return learner


@pytest.mark.slow_cases("maml-batch", "maml-support", "maml++-running")
@pytest.mark.parametrize(
    ("method", "query_statistics"),
    [
        ("maml", "batch"),
        ("maml", "running"),
        ("maml", "support"),
        ("maml++", "batch"),
        ("maml++", "running"),
        ("maml++", "support"),
    ],
)
def test_finite_differences(smooth_model, scatter, make_tasks, meta_gradient_errors, method, query_statistics):
    settings = PLUS if method == "maml++" else presets["maml"]
    learner = learner_of(smooth_model(), scatter, query_statistics=query_statistics, **settings)
    errors = meta_gradient_errors(learner, make_tasks())
    assert len(errors) == 6 + (method == "maml++")
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow_cases("meta-sgd", "meta-sgd per step", "boil", "regular expression")
@pytest.mark.parametrize(
    "settings",
    [
        presets["meta-sgd"],
        {**presets["meta-sgd"], "learned_rates": True, "multi_step_loss": True},
        {**presets["boil"], "query_statistics": "support"},
        {"head": "shared", "query_statistics": "running", "per_step_statistics": True, "multi_step_loss": True},
        {**presets["anil"], "head": "shared"},
        {"adapted": "conv/kernel|dense/bias", "per_step_weights": True, "query_statistics": "support"},
    ],
    ids=["meta-sgd", "meta-sgd per step", "boil", "shared head", "anil shared head", "regular expression"],
)
def test_finite_differences_of_other_methods(smooth_model, scatter, make_tasks, meta_gradient_errors, settings):
    learner = learner_of(smooth_model(), scatter, **settings)
    table = learner.inner_rates.table
    table.assign(table.numpy() + np.random.default_rng(5).uniform(-0.1, 0.1, table.shape))
    errors = meta_gradient_errors(learner, make_tasks())
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow
def test_finite_differences_after_the_multi_step_loss(smooth_model, scatter, make_tasks, meta_gradient_errors):
    learner = learner_of(smooth_model(), scatter, query_statistics="running", **PLUS)
    learner.set_epoch(10)
    assert not learner.phase.all_steps
    errors = meta_gradient_errors(learner, make_tasks())
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow
def test_finite_differences_of_conv4(scatter, make_tasks, meta_gradient_errors):
    model = conv4((8, 8, 1), 3, filters=3, blocks=2, dtype="float64")
    errors = meta_gradient_errors(learner_of(model, **PLUS), make_tasks(), steps=KINKS)
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layer", "group"])
def test_finite_differences_of_other_normalisations(smooth_model, make_tasks, meta_gradient_errors, kind):
    norm = {
        "layer": keras.layers.LayerNormalization(dtype="float64"),
        "group": keras.layers.GroupNormalization(3, dtype="float64"),
    }[kind]
    errors = meta_gradient_errors(learner_of(smooth_model(norm), **PLUS), make_tasks(tasks=1))
    assert max(errors.values()) < 1e-6, errors


@pytest.fixture
def dropout_learner(smooth_model, scatter):
    return learner_of(smooth_model(keras.layers.Dropout(0.5, seed=3, dtype="float64")), scatter)


@pytest.mark.slow
def test_finite_differences_with_dropout(dropout_learner, make_tasks, meta_gradient_errors):
    errors = meta_gradient_errors(dropout_learner, make_tasks())
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow
def test_dropout_follows_from_the_state(dropout_learner, make_tasks):
    learner, tasks = dropout_learner, make_tasks()
    learner.compile(keras.optimizers.SGD(0.0))
    first, again = (learner.meta_gradient(tasks)[2]["meta_loss"] for _ in range(2))
    assert float(first) == float(again)
    learner.train_step(tasks)
    assert float(learner.meta_gradient(tasks)[2]["meta_loss"]) != float(first)


@pytest.mark.slow
def test_tasks_drop_units_of_their_own(dropout_learner, smooth_model, scatter, make_tasks):
    def loss(learner, count):
        tasks = {k: tf.repeat(v, count, 0) for k, v in make_tasks(tasks=1).items()}
        return float(learner.meta_gradient(tasks)[2]["meta_loss"])

    assert loss(dropout_learner, 1) != loss(dropout_learner, 2)
    plain = learner_of(smooth_model(), scatter)
    assert loss(plain, 1) == pytest.approx(loss(plain, 2), rel=1e-14)


@pytest.mark.slow
def test_the_mean_over_tasks(smooth_model, scatter, make_tasks):
    learner, tasks = learner_of(smooth_model(), scatter, **PLUS), make_tasks(tasks=3)
    whole = learner.meta_gradient(tasks)
    single = [learner.meta_gradient({k: v[i : i + 1] for k, v in tasks.items()}) for i in range(3)]
    for part in (0, 1):
        for value, parts in zip(whole[part], zip(*(s[part] for s in single), strict=True), strict=True):
            np.testing.assert_allclose(value, np.mean(parts, 0), rtol=0, atol=1e-13)
    for name, value in whole[2].items():
        np.testing.assert_allclose(value, np.mean([s[2][name] for s in single]), rtol=1e-13)


def by_hand(learner, tasks, steps, first_order):
    """The meta-gradient of a model without batch norm, with plain nested tapes."""
    model = learner.model
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    task = {k: v[0] for k, v in tasks.items()}

    def loss(weights, part):
        outputs, _ = model.stateless_call(weights, [], task[f"{part}_images"])
        return cross_entropy(task[f"{part}_labels"], outputs)

    start = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(start)
        fast = start
        for _ in range(steps):
            with tf.GradientTape() as inner:
                inner.watch(fast)
                support = loss(fast, "support")
            fast = [w - 0.3 * g for w, g in zip(fast, inner.gradient(support, fast), strict=True)]
        query = loss(fast, "query")
    return outer.gradient(query, fast if first_order else start)


@pytest.fixture
def mlp_learner(scatter):
    def make(**settings):
        keras.utils.set_random_seed(0)
        return learner_of(mlp((4,), 3, (5, 5), dtype="float64"), scatter, **settings)

    return make


def test_first_order_is_the_gradient_at_the_adapted_point(mlp_learner, make_tasks):
    tasks = make_tasks(tasks=1, shape=(4,))
    learner = mlp_learner(**presets["fomaml"])
    second_order = mlp_learner().meta_gradient(tasks)[0]
    for g, expected, exact in zip(
        learner.meta_gradient(tasks)[0], by_hand(learner, tasks, 2, True), second_order, strict=True
    ):
        np.testing.assert_allclose(g, expected, rtol=0, atol=1e-14)
        assert np.linalg.norm(g - exact) > 1e-3 * np.linalg.norm(exact)


def test_second_order_by_hand(mlp_learner, make_tasks):
    tasks = make_tasks(tasks=1, shape=(4,))
    learner = mlp_learner()
    for g, expected in zip(learner.meta_gradient(tasks)[0], by_hand(learner, tasks, 2, False), strict=True):
        np.testing.assert_allclose(g, expected, rtol=0, atol=1e-14)


def test_annealing_starts_first_order_and_ends_second_order(mlp_learner, make_tasks):
    tasks = make_tasks(tasks=1, shape=(4,))
    learner = mlp_learner(derivative_order_annealing=True, second_order_from_epoch=3)
    for epoch, method in ((0, "fomaml"), (2, "fomaml"), (3, "maml")):
        learner.set_epoch(epoch)
        expected = mlp_learner(**presets[method]).meta_gradient(tasks)[0]
        for a, b in zip(learner.meta_gradient(tasks)[0], expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_the_multi_step_loss_weighs_every_query_loss(mlp_learner, make_tasks):
    tasks = make_tasks(tasks=1, shape=(4,))
    learner = mlp_learner(multi_step_loss=True, multi_step_loss_epochs=4, inner_steps=3)
    learner.set_epoch(1)
    curve = learner.curves(tasks)[0, 1:]
    labels = tasks["query_labels"][0]
    losses = [tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, c, from_logits=True)) for c in curve]
    _, _, numbers = learner.meta_gradient(tasks)
    np.testing.assert_allclose(numbers["meta_loss"], np.dot([0.25, 0.25, 0.5], losses), rtol=1e-6)
    np.testing.assert_allclose(numbers["loss"], losses[-1], rtol=1e-6)


def test_a_linear_regression_in_closed_form(make_tasks):
    generator = np.random.default_rng(6)
    x, y = generator.normal(size=(2, 2, 4, 1))
    tasks = {
        "support_images": x[:1],
        "support_labels": y[:1],
        "query_images": x[1:],
        "query_labels": y[1:],
    }
    learner = MetaLearner(
        mlp((1,), 1, (), dtype="float64"),
        inner_steps=1,
        inner_rate=0.2,
        loss="mean_squared_error",
        metric="mean_squared_error",
    )
    w, b = (float(np.squeeze(v.numpy())) for v in learner.model.trainable_variables)
    (xs, xq), (ys, yq) = x[..., 0], y[..., 0]
    residual = w * xs + b - ys
    w1, b1 = w - 0.4 * np.mean(residual * xs), b - 0.4 * np.mean(residual)
    gradients, _, numbers = learner.meta_gradient({k: tf.constant(v) for k, v in tasks.items()})
    after = w1 * xq + b1 - yq
    assert float(numbers["meta_loss"]) == pytest.approx(np.mean(after**2), rel=1e-12)
    assert float(numbers["mean_squared_error"]) == pytest.approx(np.mean(after**2), rel=1e-6)
    hessian = 2 * np.array([[np.mean(xs**2), np.mean(xs)], [np.mean(xs), 1.0]])
    expected = (np.eye(2) - 0.2 * hessian) @ [2 * np.mean(after * xq), 2 * np.mean(after)]
    np.testing.assert_allclose([float(np.squeeze(g)) for g in gradients], expected, rtol=1e-12)


def test_a_query_pass_has_its_gradient_before_the_next_step_begins(make_tasks):
    """Beside later steps, query passes would all be kept for the outer backward pass."""
    learner = learner_of(conv4((8, 8, 1), 3, filters=2, blocks=2), multi_step_loss=True)
    task = {name: value[0] for name, value in make_tasks(dtype="float32").items()}
    model = learner.functional_model

    @tf.function(autograph=False)
    def step():
        carried = [model.start[i] for i in model.adapted], model.state
        constants = model.start, learner.inner_rates.table
        (fast, _), _, _ = multi_step_loss._outer_step(
            model, task, carried, constants, 0, settings=learner.settings, phase=learner.phase, scale=None
        )
        return fast

    def kernel_gradients(follow_control):
        pending, found = [t.op for t in step.get_concrete_function().graph.outputs], set()
        while pending:
            op = pending.pop()
            if op not in found:
                found.add(op)
                pending += [t.op for t in op.inputs] + follow_control * list(op.control_inputs)
        return sum(op.type == "Conv2DBackpropFilter" for op in found)

    support = kernel_gradients(follow_control=False)
    assert kernel_gradients(follow_control=True) == 2 * support > 0


@pytest.mark.slow
def test_state_that_holds_a_weight_itself(scatter, make_tasks, meta_gradient_errors):
    """The same tensor is a weight and a state of the query pass: neither counts twice."""

    class Remembers(keras.layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.copy = self.add_weight(shape=self.kernel.shape, trainable=False, name="copy")

        def call(self, inputs):
            outputs = super().call(inputs) + tf.tanh(inputs @ tf.convert_to_tensor(self.copy))
            self.copy.assign(tf.convert_to_tensor(self.kernel))
            return outputs

    def model():
        stack = [
            keras.Input((4,), dtype="float64"),
            Remembers(3, dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
        ]
        return keras.Sequential(stack)

    for rematerialise in (False, True):
        settings = {"adapted": "head", "multi_step_loss": True, "rematerialise": rematerialise}
        errors = meta_gradient_errors(learner_of(model(), scatter, **settings), make_tasks(shape=(4,)))
        assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow
def test_frozen_layers_of_another_type(make_tasks):
    frozen = keras.layers.Conv2D(4, 3, dtype="bfloat16", trainable=False)
    stack = [keras.Input((8, 8, 1)), frozen, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    learner = learner_of(keras.Sequential(stack), multi_step_loss=True)
    gradients = tf.function(learner.meta_gradient)(make_tasks(dtype="float32"))[0]
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in gradients)
