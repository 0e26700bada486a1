"""`MetaLearner` as a user meets it: switches, training through Keras, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.data import sinusoid_episodes
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.losses import accuracy
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import MODIFICATIONS, presets
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.mlp import mlp


@pytest.fixture
def make_learner():
    def make(optimizer=None, dtype=None, **settings):
        keras.utils.set_random_seed(0)
        model = conv4((8, 8, 1), 3, filters=3, blocks=2, dtype=dtype)
        learner = MetaLearner(model, **{"way": 3, "inner_steps": 2, **settings})
        learner.compile(optimizer or keras.optimizers.SGD(0.1))
        return learner

    return make


def values(learner):
    return {v.path: v.numpy() for v in [*learner.model.variables, learner.inner_rates.table]}


def changed(learner, before):
    return {path.split("/", 1)[-1] for path, value in values(learner).items() if (value != before[path]).any()}


LATEST = {"update_loss", "gradient_norm"}  # of the last update, not a mean
WEIGHTS = {f"{layer}/{w}" for layer in ("conv0", "conv1", "dense") for w in ("kernel", "bias")}
NORM = {f"norm{i}/{w}" for i in (0, 1) for w in ("gamma", "beta", "moving_mean", "moving_variance")}


@pytest.mark.slow_cases(
    "multi_step_loss", "per_step_statistics", "per_step_weights", "learned_rates", "cosine_annealing"
)
@pytest.mark.parametrize("switch", [*MODIFICATIONS, "elementwise_rates", "first_order"])
def test_every_switch_alone_trains(make_learner, make_tasks, switch):
    learner = make_learner(**{switch: True})
    before = values(learner)
    numbers = learner.train_step(make_tasks(dtype="float32"))
    assert set(numbers) == {"meta_loss", "loss", "accuracy", *LATEST}
    assert all(np.isfinite(n) for n in numbers.values())
    # A bias before batch norm has no gradient but rounding.
    assert changed(learner, before) | {"conv0/bias", "conv1/bias"} == (
        WEIGHTS | NORM | ({"inner_rates/rates", "rates"} & changed(learner, before))
    )
    assert (switch in ("learned_rates", "elementwise_rates")) == bool(
        {"inner_rates/rates", "rates"} & changed(learner, before)
    )

    norm = learner.model.get_layer("norm0")
    assert norm.gamma.shape == ((2, 3) if switch == "per_step_weights" else (3,))
    assert norm.moving_mean.shape == ((2, 3) if switch == "per_step_statistics" else (3,))
    assert learner.phase.all_steps == (switch == "multi_step_loss")
    assert learner.phase.second_order == (switch not in ("first_order", "derivative_order_annealing"))


@pytest.mark.slow
def test_each_row_is_recorded_by_the_query_pass_of_its_step_or_else_the_support_pass(make_learner, make_tasks):
    learner = make_learner(per_step_statistics=True, dtype="float64")
    tasks = make_tasks(tasks=1)
    learner.train_step(tasks)
    fresh = make_learner(per_step_statistics=True, dtype="float64")
    seen = fresh.model.get_layer("conv0")(tasks["support_images"][0]).numpy().mean((0, 1, 2))
    moving = learner.model.get_layer("norm0").moving_mean.numpy()
    np.testing.assert_allclose(moving[0], 0.1 * seen, rtol=1e-12)
    fast = fresh.adapt(tasks["support_images"][0], tasks["support_labels"][0]).weights
    kernel, bias = fast[:2]
    seen = tf.nn.conv2d(tasks["query_images"][0], kernel, 1, "SAME") + bias
    np.testing.assert_allclose(moving[1], 0.1 * seen.numpy().mean((0, 1, 2)), rtol=1e-9)


@pytest.mark.slow
def test_gradients_are_clipped_entry_by_entry(make_learner, make_tasks):
    tasks = make_tasks()
    gradients = make_learner(dtype="float64").meta_gradient(tasks)[0]
    limit = float(np.median(np.abs(np.concatenate([np.ravel(g) for g in gradients]))))
    learner = make_learner(keras.optimizers.SGD(1.0), dtype="float64", gradient_clip=limit)
    before = [v.numpy() for v in learner.trainable_variables]
    numbers = learner.train_step(tasks)
    flat = np.concatenate([np.ravel(g) for g in gradients])
    assert float(numbers["gradient_norm"]) == pytest.approx(np.linalg.norm(flat))  # before it is clipped
    assert float(numbers["clipped"]) == pytest.approx((np.abs(flat) > limit).mean())
    for old, v, g in zip(before, learner.trainable_variables, gradients, strict=True):
        np.testing.assert_allclose(old - v.numpy(), np.clip(g, -limit, limit), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_whole_run_through_keras(make_learner, make_tasks, monkeypatch):
    learner = make_learner(
        keras.optimizers.Adam(1e-3),
        **presets["maml++"],
        multi_step_loss_epochs=1,
        second_order_from_epoch=2,
        minimum_rate=1e-4,
    )
    traces, task_loss = [], learner.task_loss
    monkeypatch.setattr(learner, "task_loss", lambda *a: traces.append(learner.phase) or task_loss(*a))
    rates, weights = [], []
    recorder = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            rates.append(float(learner.optimizer.learning_rate)),
            weights.append(learner.loss_weights.numpy().tolist()),
        )
    )
    train = tf.data.Dataset.from_tensors(make_tasks(dtype="float32")).repeat()
    validation = tf.data.Dataset.from_tensors(make_tasks(dtype="float32", seed=1)).repeat(2)
    history = learner.fit(
        train, epochs=4, steps_per_epoch=2, validation_data=validation, callbacks=[recorder], verbose=0
    ).history

    assert traces == [(False, True), (False, False), (True, False)]
    assert weights == [[0.5, 0.5], [0, 1], [0, 1], [0, 1]]
    cosine = [1e-4 + 9e-4 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)]
    np.testing.assert_allclose(rates, cosine, rtol=1e-6)
    tested = {"loss", "accuracy", "step_0", "step_1", "step_2"}
    assert set(history) == {"meta_loss", "loss", "accuracy", *LATEST} | {"val_" + name for name in tested}
    assert all(len(v) == 4 and np.isfinite(v).all() for v in history.values())
    assert history["val_accuracy"] == history["val_step_2"]
    assert history["meta_loss"][1:] == history["loss"][1:]


@pytest.mark.slow
def test_training_teaches(make_learner, make_tasks):
    learner = make_learner(keras.optimizers.Adam(1e-2), inner_rate=0.4)
    train = tf.data.Dataset.from_tensors(make_tasks(dtype="float32")).repeat()
    losses = learner.fit(train, epochs=2, steps_per_epoch=25, verbose=0).history["loss"]
    assert losses[1] < 0.8 * losses[0]


def test_regression_learns_sinusoids():
    learner = MetaLearner(
        mlp((1,), 1, (20, 20)), inner_steps=1, inner_rate=0.01, loss="mean_squared_error", metric="mean_squared_error"
    )
    learner.compile(keras.optimizers.Adam(3e-3))
    episodes = sinusoid_episodes(shot=10, query_shot=10, tasks=8)
    history = learner.fit(episodes, epochs=2, steps_per_epoch=60, verbose=0).history
    assert set(history) == {"meta_loss", "loss", "mean_squared_error", *LATEST}
    np.testing.assert_allclose(history["mean_squared_error"], history["loss"], rtol=1e-5)
    assert history["loss"][1] < history["loss"][0]
    found = learner.evaluate(
        sinusoid_episodes(split="validation", shot=10, query_shot=10, tasks=8, count=5), verbose=0, return_dict=True
    )
    assert found["step_1"] < found["step_0"]


def test_a_subclassed_model_is_learned_and_not_changed(make_tasks):
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(3)

        def call(self, x, training=False):
            return self.dense(self.flatten(x))

    model = Mine()
    model(tf.zeros((1, 8, 8, 1)))
    learner = MetaLearner(model, way=3, inner_steps=1)
    learner.compile("sgd")
    before = model.dense.kernel.numpy()
    learner.train_step(make_tasks(dtype="float32"))
    learned = next(v for v in learner.model.trainable_variables if v.path == model.dense.kernel.path)
    assert (learned.numpy() != before).any() and (model.dense.kernel.numpy() == before).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"way": 5}, "model 'conv4' has 3 outputs for 5-way tasks: make its last layer 5 wide"),
        ({"query_statistics": "mean"}, "^query_statistics is one of batch, running, support, not 'mean'"),
        ({"evaluation_statistics": "none"}, "^evaluation_statistics is one of batch, running, support, not 'none'"),
        ({"first_order": True, "derivative_order_annealing": True}, "contradict each other: choose one"),
        ({"inner_steps": 0}, "inner_steps is 0: it must be positive"),
        ({"adapted": "tail"}, "adapted='tail' leaves the inner loop no weight"),
        (
            {"adapted": "body", "head": "shared"},
            "head=shared needs the inner loop to adapt the head: adapted=body does not",
        ),
        (
            {"adapted": "conv0", "head": "shared"},
            "head=shared is each task's own, so the inner loop has to adapt",
        ),
        ({"adapted": 3}, r"adapted is of type str \| Callable.*, and 3 is not"),
        ({"adapted": "conv("}, r"adapted is all, head, body or a regular expression; 'conv\(' is none: missing \)"),
        ({"elementwise_rates": True, "head": "shared"}, "elementwise_rates and head=shared contradict each other"),
        ({"inner_step": 3}, "inner_step is no setting of a learner: did you mean inner_steps?"),
        ({"prototypes": True}, "use PrototypicalNetworks in place of MetaLearner"),
        ({"label_permutations": 3, "head": "shared"}, "label_permutations has no use with head=shared"),
        ({"label_permutations": 4}, "label_permutations is 4: it must be 1 to the way, 3"),
        ({"metric": "no_such_metric"}, "metric 'no_such_metric' is not one of keras.metrics"),
    ],
)
def test_settings_that_contradict_or_do_not_exist(make_learner, settings, message):
    with pytest.raises(UserError, match=message):
        make_learner(**settings)


def test_frozen_layers_stay(make_tasks):
    model = conv4((8, 8, 1), 3, filters=3, blocks=2)
    for name in ("conv0", "norm0"):
        model.get_layer(name).trainable = False
    learner = MetaLearner(model, way=3, inner_steps=2, **presets["maml++"])
    learner.compile(keras.optimizers.SGD(0.1))
    before = values(learner)
    learner.train_step(make_tasks(tasks=3, dtype="float32"))  # the sum of three equal values is rounded
    assert not any("0/" in path for path in changed(learner, before))
    assert {"conv1/kernel", "norm1/gamma", "norm1/moving_mean", "dense/kernel"} <= changed(learner, before)


def test_freezing_what_a_learner_has_is_refused(make_learner, make_tasks):
    learner = make_learner()
    learner.model.get_layer("conv0").trainable = False
    with pytest.raises(UserError, match="model 'conv4': freeze layers before the model is given to MetaLearner"):
        learner.curves(make_tasks())


def test_a_wholly_frozen_model_is_refused():
    model = conv4((8, 8, 1), 3, filters=3, blocks=2)
    model.trainable = False
    with pytest.raises(UserError, match="model 'conv4' is frozen: there is nothing to learn"):
        MetaLearner(model, way=3)


def test_meta_sgd_with_equal_rates_is_maml(make_learner, make_tasks):
    tasks = make_tasks()
    maml, sgd = (make_learner(dtype="float64", **presets[name]) for name in ("maml", "meta-sgd"))
    np.testing.assert_allclose(sgd.curves(tasks), maml.curves(tasks), rtol=0, atol=1e-12)
    weights = sum(v.value.shape.num_elements() for v in sgd.model.trainable_variables if "norm" not in v.path)
    assert sgd.inner_rates.table.shape == (weights, 1)
    both = make_learner(dtype="float64", elementwise_rates=True, learned_rates=True)
    assert both.inner_rates.table.shape == (sgd.inner_rates.table.shape[0], 2)


def test_a_shared_head_starts_all_classes_alike(make_learner, make_tasks):
    learner = make_learner(head="shared", dtype="float64")
    curves = learner.curves(make_tasks()).numpy()
    np.testing.assert_allclose(curves[:, 0], np.repeat(curves[:, 0, :, :1], 3, -1), rtol=0, atol=1e-12)
    assert np.ptp(curves[:, -1], axis=-1).min() > 0
    kernel = learner.model.get_layer("dense").kernel
    gradients = learner.meta_gradient(make_tasks())[0]
    gradient = next(g for v, g in zip(learner.trainable_variables, gradients, strict=True) if v is kernel).numpy()
    assert np.abs(gradient[:, 0]).max() > 0 and not gradient[:, 1:].any()


def test_a_shared_head_makes_the_order_of_classes_immaterial(make_learner, make_tasks):
    tasks = make_tasks()
    learner = make_learner(head="shared", dtype="float64")
    once = learner.curves(tasks)
    turned = learner.curves({**tasks, "support_labels": (tasks["support_labels"] + 1) % 3})
    np.testing.assert_allclose(tf.roll(turned, -1, -1), once, rtol=0, atol=1e-12)


def test_what_a_learner_answers_before_a_task(make_learner, make_tasks):
    images = make_tasks(dtype="float32")["query_images"][0]
    shared = make_learner(head="shared")(images).numpy()
    np.testing.assert_allclose(shared, np.repeat(shared[:, :1], 3, -1), rtol=0, atol=1e-6)
    learner = make_learner()
    before = values(learner)
    for training in (False, True):
        np.testing.assert_allclose(
            learner(images, training=training), learner.model(images, training=training), atol=1e-6
        )
        assert bool(changed(learner, before)) == training


@pytest.mark.slow
def test_label_permutations_average_probabilities(make_learner, make_tasks):
    tasks, rotated = make_tasks(shot=2), []
    plain = make_learner(dtype="float64")
    for shift in range(2):
        curves = plain.curves({**tasks, "support_labels": (tasks["support_labels"] + shift) % 3})
        rotated.append(tf.gather(tf.nn.softmax(curves), (np.arange(3) + shift) % 3, axis=-1))
    assert np.abs(rotated[0] - rotated[1]).max() > 1e-3
    averaged = tf.nn.softmax(make_learner(label_permutations=2, dtype="float64").curves(tasks))
    np.testing.assert_allclose(averaged, (rotated[0] + rotated[1]) / 2, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_label_permutations_keep_logarithms_finite(make_learner, make_tasks):
    learner = make_learner(inner_steps=5, inner_rate=50.0, label_permutations=2)
    tasks = make_tasks(dtype="float32")
    curves = learner.curves(tasks).numpy()
    assert (curves < -150).any() and np.isfinite(curves).all()  # exp(-150) is 0 in float32


@pytest.mark.slow
def test_mixed_precision_keeps_weights_and_losses_in_float32(make_learner, make_tasks):
    tasks = make_tasks(dtype="float32")
    learner, plain = make_learner(dtype="mixed_bfloat16"), make_learner()
    assert {v.dtype for v in learner.trainable_variables} == {"float32"}
    assert learner.curves(tasks).dtype == tf.float32
    mixed, exact = (m.meta_gradient(tasks)[2]["meta_loss"] for m in (learner, plain))
    assert 0 < abs(float(mixed) - float(exact)) < 0.05
    before = values(learner)
    learner.train_step(tasks)
    assert WEIGHTS - {"conv0/bias", "conv1/bias"} <= changed(learner, before)


def test_a_model_without_weights_is_refused():
    for model in (
        keras.Sequential([keras.layers.Dense(3)], name="mine"),
        keras.Sequential([keras.Input((3,))], name="mine"),
    ):
        with pytest.raises(UserError, match="model 'mine' has no weights yet"):
            MetaLearner(model, way=3)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_accuracy_of_labels_as_users_have_them(dtype):
    outputs = tf.constant([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    for labels in ([1, 1, 1], [[1], [1], [1]]):
        np.testing.assert_array_equal(accuracy(tf.constant(labels, dtype), outputs), [1.0, 0.0, 1.0])


@pytest.mark.slow
def test_xla_makes_the_same_updates(make_learner, make_tasks):
    tasks = tf.data.Dataset.from_tensors(make_tasks(dtype="float32")).repeat(2)
    plain, compiled = (make_learner(**{**presets["maml++"], "derivative_order_annealing": False}) for _ in range(2))
    compiled.compile(keras.optimizers.SGD(0.1), jit_compile=True)
    before = values(plain)
    logs, found = (learner.fit(tasks, verbose=0).history for learner in (plain, compiled))
    assert compiled.jit_compile and not plain.jit_compile
    assert found == {name: pytest.approx(value, rel=1e-4) for name, value in logs.items()}
    for path, value in values(plain).items():
        np.testing.assert_allclose(values(compiled)[path], value, rtol=1e-4, atol=1e-5, err_msg=path)
    assert {"conv0/kernel", "dense/kernel", "norm0/gamma", "norm1/moving_variance"} < changed(plain, before)
