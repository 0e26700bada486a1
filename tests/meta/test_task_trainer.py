"""A learner compiled and driven as any Keras model: losses, metrics, data in every form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.errors import UserError

WAY = 3


def network(activation=None):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(WAY, activation)]
    return keras.Sequential(layers, name="net")


def make(activation=None, **settings):
    return mp.MetaLearner(network(activation), way=WAY, **{"inner_steps": 1, "inner_rate": 0.5, **settings})


@pytest.fixture
def tasks(make_tasks):
    return make_tasks(tasks=4, shape=(4,), query_shot=3, dtype="float32")


def one_hot(tasks):
    return {k: tf.one_hot(v, WAY) if k.endswith("labels") else v for k, v in tasks.items()}


def renamed(tasks):
    return {k.replace("images", "x").replace("labels", "y"): v for k, v in tasks.items()}


@pytest.mark.slow
def test_several_metrics_with_names_values_and_directions(tasks):
    def margin(labels, outputs):
        return tf.reduce_max(outputs, -1)

    top = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top")
    learner = make()
    learner.compile("sgd", metrics=["accuracy", top, "sparse_categorical_crossentropy", margin])
    data = tf.data.Dataset.from_tensors(tasks)
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=5)
    plateau = keras.callbacks.ReduceLROnPlateau("val_sparse_categorical_crossentropy", patience=5)
    history = learner.fit(data, validation_data=data, callbacks=[stop, plateau], verbose=0).history
    assert stop.monitor_op(1.0, 0.5) and plateau.monitor_op(0.5, 1.0)
    found = learner.evaluate(data, verbose=0, return_dict=True)
    assert dict(zip(learner.metrics_names, learner.evaluate(data, verbose=0), strict=True)) == found
    assert {f"val_{name}": [value] for name, value in found.items()}.items() <= history.items()

    logits, labels = learner.curves(tasks)[:, -1].numpy(), tasks["query_labels"].numpy()
    right = np.take_along_axis(logits, labels[..., None], -1)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean())
    assert found["accuracy"] == pytest.approx(found["step_1"])
    assert found["top"] == pytest.approx((np.sum(logits > right, -1) < 2).mean())
    assert found["sparse_categorical_crossentropy"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["margin"] == pytest.approx(logits.max(-1).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="mode"):  # as of any function in Keras
        learner.fit(data, validation_data=data, callbacks=[keras.callbacks.EarlyStopping("val_margin")], verbose=0)


def test_the_loss_of_compile_is_that_of_both_loops(tasks):
    smoothing = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)

    def smoothed(labels, outputs):
        return -tf.reduce_sum((0.7 * labels + 0.3 / WAY) * tf.nn.log_softmax(outputs), -1)

    given = [
        (make(), "sparse_categorical_crossentropy", tasks),
        (make(), "categorical_crossentropy", one_hot(tasks)),
        (make("softmax"), "categorical_crossentropy", one_hot(tasks)),
        (make(), smoothing, one_hot(tasks)),
        (make(loss=smoothed), None, one_hot(tasks)),
    ]
    found = []
    for learner, loss, batch in given:
        learner.compile("sgd", loss=loss, metrics=["accuracy"])
        adapted = learner.adapt(batch["support_images"][0], batch["support_labels"][0])
        gradients, _, numbers = learner.meta_gradient(batch)
        answers = learner.predict_adapted(adapted, batch["query_images"][0])
        found.append([*gradients, numbers["meta_loss"], numbers["accuracy"], answers])
    for a, b in ((0, 1), (1, 2), (3, 4)):
        for one, other in zip(found[a], found[b], strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)
    assert abs(found[0][-3] - found[3][-3]) > 1e-3


@pytest.mark.slow
def test_a_head_whose_loss_only_compile_tells(tasks):
    learner = make("sigmoid")
    with pytest.raises(UserError, match="model 'net' ends in sigmoid"):
        learner.compile("sgd")
    with pytest.raises(UserError, match="model 'net' ends in sigmoid"):
        learner.adapt(tasks["support_images"][0], tasks["support_labels"][0])
    learner.compile("sgd", loss="binary_crossentropy", metrics=["binary_accuracy"])
    assert learner.output_kind.independent
    found = learner.test_on_batch(one_hot(tasks), return_dict=True)
    right = (learner.curves(one_hot(tasks))[:, -1].numpy() > 0.5) == one_hot(tasks)["query_labels"].numpy()
    assert found["binary_accuracy"] == pytest.approx(right.mean())
    regression = mp.MetaLearner(network(), inner_steps=1)
    regression.compile("sgd", loss="mse", metrics=["mae", "RootMeanSquaredError"])
    assert not regression.classifies
    assert regression.metrics_names == ["loss", "mae", "RootMeanSquaredError", "step_0", "step_1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["accuracy", "accuracy"]}, "^two metrics are named 'accuracy': give one of them another name$"),
        ({"metrics": ["nothing"]}, "^metric 'nothing' is not one of keras.metrics"),
        ({"metrics": {"out": "accuracy"}}, "^metrics is a list"),
        ({"loss": "nothing"}, "^loss 'nothing' is not one of keras.losses"),
        ({"loss": ["mse", "mae"]}, "^loss is one loss, not several"),
        ({"weighted_metrics": ["accuracy"]}, r"^compile\(weighted_metrics=...\) has no use"),
    ],
)
def test_what_compile_refuses(settings, message):
    with pytest.raises(UserError, match=message):
        make().compile("sgd", **settings)


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def forms(tasks):
    """The same two meta-batches in every form, and what goes with it."""
    halves = [{k: v[i : i + 2].numpy() for k, v in tasks.items()} for i in (0, 2)]
    dataset = tf.data.Dataset.from_tensor_slices(tasks).batch(2)
    return {
        "dataset": (dataset, {}),
        "dataset of tuples": (dataset.map(lambda x: (renamed(x),)), {}),
        "dict of arrays": (renamed(tasks), {"batch_size": 2}),
        "tuple of a dict": ((tasks,), {"batch_size": 2}),
        "list of dicts": ([halves[0], renamed(halves[1])], {}),
        "list of tuples": ([(half,) for half in halves], {}),
        "lists of numbers": ([{k: v.tolist() for k, v in half.items()} for half in halves], {}),
        "generator": ((renamed(half) for half in halves), {}),
        "generator of tuples": (((half,) for half in halves), {}),
        "iterator": (dataset.as_numpy_iterator(), {}),
        "PyDataset": (Batches([(renamed(half),) for half in halves]), {}),
        "PyDataset of dicts": (Batches(halves), {}),
    }


def test_every_form_of_data_is_the_same_data(tasks):
    learner = make()
    learner.compile(keras.optimizers.SGD(0.1))
    expected = None
    for name, (data, how) in forms(tasks).items():
        found = learner.evaluate(data, verbose=0, **how)
        expected = expected or found
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_every_form_of_data_trains(tasks):
    learner = make(first_order=True)
    learner.compile(keras.optimizers.SGD(0.0))
    names = ("dataset", "list of dicts", "generator")
    histories = []
    for name in names:
        (data, how), validation = forms(tasks)[name], forms(tasks)[name][0]
        histories.append(learner.fit(data, validation_data=validation, verbose=0, **how).history)
    for name, history in zip(names, histories, strict=True):
        for key in ("meta_loss", "accuracy", "val_loss"):
            assert history[key] == pytest.approx(histories[0][key], rel=1e-5), (name, key)


def test_on_batch_methods_and_predict(tasks):
    fitted, stepped = make(), make()
    for learner in (fitted, stepped):
        learner.compile(keras.optimizers.SGD(0.1))
    fitted.fit(tf.data.Dataset.from_tensors(tasks), verbose=0)
    stepped.train_on_batch(renamed({k: v.numpy() for k, v in tasks.items()}))
    for a, b in zip(fitted.variables, stepped.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    stepped.reset_metrics()
    named = stepped.test_on_batch(tasks, return_dict=True)
    stepped.reset_metrics()  # which Keras 3.8 leaves to the caller
    assert stepped.test_on_batch(tasks) == [named[name] for name in stepped.metrics_names]
    unlabelled = {k: v for k, v in renamed(tasks).items() if k != "query_y"}
    answers = stepped.predict(unlabelled, batch_size=3, verbose=0)
    np.testing.assert_array_equal(stepped.predict_on_batch(unlabelled), stepped.predict_on_batch(tasks))
    for i in range(4):
        adapted = stepped.adapt(tasks["support_images"][i], tasks["support_labels"][i])
        np.testing.assert_allclose(
            answers[i], stepped.predict_adapted(adapted, tasks["query_images"][i]), rtol=1e-5, atol=1e-7
        )
    plain = tasks["query_images"][0]
    np.testing.assert_allclose(stepped.predict(plain, verbose=0), stepped.model(plain), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda t: [{k: v for k, v in t.items() if k != "support_labels"}], "^a meta-batch has no support_y: it is a"),
        (lambda t: [{**t, **renamed(t)}], "^a meta-batch has support_x under both of its names: leave one out"),
        (lambda t: [], "^there are no tasks"),
        (lambda t: [{**t, "query_labels": t["query_labels"] + 1}], "^query_labels has the label 3: those of a 3-way"),
        (lambda t: iter([{**t, "query_labels": t["query_labels"] - 1}]), "query_labels has the label -1"),
        (
            lambda t: tf.data.Dataset.from_tensors({**t, "support_labels": t["support_labels"] + 1}),
            "^a task has the label 3: those of a 3-way task are 0 to 2$",
        ),
        (lambda t: tf.data.Dataset.from_tensors(tuple(t.values())), "^one element of the data .* and not a tuple of 4"),
    ],
)
def test_data_that_are_no_tasks(tasks, data, message):
    learner = make()
    learner.compile("sgd")
    with pytest.raises(UserError, match=message) as error:
        learner.evaluate(data(tasks), verbose=0)
    assert "\n" not in str(error.value)


def test_what_has_no_use(tasks):
    learner = make()
    learner.compile("sgd")
    with pytest.raises(UserError, match="^y has no use: labels are part of the tasks"):
        learner.fit(tasks, tasks["query_labels"])
    with pytest.raises(UserError, match=r"^learner.trainable = False has no use"):
        learner.trainable = False
