"""TensorFlow set up as the commands do it, a cache of the session's own, and small tasks, models and oracles."""

from tf_mamlpp import runtime

runtime.configure()  # before anything imports TensorFlow

import datetime  # noqa: E402
import functools  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402

import hypothesis  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)


def pytest_xdist_auto_num_workers():
    """Each worker loads TensorFlow: no more of them than memory is sure to hold."""
    return min(runtime.cores(), 4)


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items):
    """`slow_cases("one", "another")` marks these cases of a parametrized test as slow."""
    for item in items:
        marks = item.iter_markers("slow_cases")
        if any(item.callspec.id in mark.args for mark in marks):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """No test reads or writes the user's cache; parallel workers share one."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    cache.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_MAMLPP_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def no_hang(request):
    """Fails a test that takes a minute, a long fuzz one for each part: of those that a mistake would make endless."""

    def on_alarm(number, frame):
        raise AssertionError("this hangs")

    handler = signal.signal(signal.SIGALRM, on_alarm)
    parts = request.node.callspec.params.get("fuzz", 1) if hasattr(request.node, "callspec") else 1
    signal.alarm(60 * parts)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)


@pytest.fixture(params=[1, pytest.param(40, marks=pytest.mark.slow)], ids=["quick", "deep"])
def fuzz(request):
    """Calls a function with what hypothesis chooses, always the same: fuzz(function, 100, argument=strategy, ...)."""

    def run(function, examples, **strategies):
        hypothesis.settings(
            max_examples=examples * request.param,
            derandomize=True,
            database=None,
            deadline=datetime.timedelta(seconds=20),
            suppress_health_check=list(hypothesis.HealthCheck),
        )(hypothesis.given(**strategies)(function))()

    return run


@pytest.fixture(scope="session")
def flips():
    """A strategy of damages: functions that flip one bit of a content."""

    def flip(place, bit):
        def damage(content):
            content = bytearray(content)
            content[place % len(content)] ^= 1 << bit
            return bytes(content)

        return damage

    return st.builds(flip, st.integers(0, 10**6), st.integers(0, 7))


@pytest.fixture(scope="session")
def mirrored_over():
    """The one strategy of this process over so many devices: mirrored_over(2)."""

    @functools.cache  # collective operations of two strategies in one process would be taken for each other's
    def make(devices):
        reduction = None if devices == 2 else tf.distribute.ReductionToOneDevice()
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)], reduction)
        assert strategy.num_replicas_in_sync == devices
        return strategy

    return make


@pytest.fixture(scope="session")
def make_tasks():
    """Meta-batches of random pictures: make_tasks(tasks=2, way=3, ...)."""

    def make(tasks=2, way=3, shot=1, query_shot=2, shape=(8, 8, 1), dtype="float64", seed=0):
        generator = np.random.default_rng(seed)
        batch = {}
        for part, each in (("support", shot), ("query", query_shot)):
            images = generator.normal(size=(tasks, way * each, *shape))
            batch[f"{part}_images"] = tf.constant(images, dtype)
            labels = np.tile(np.repeat(np.arange(way, dtype=np.int32), each), (tasks, 1))
            batch[f"{part}_labels"] = tf.constant(labels)
        return batch

    return make


@pytest.fixture(scope="session")
def smooth_model():
    """A float64 classifier without kinks, so that finite differences are exact: smooth_model(extra layers...)."""

    def make(*extra, way=3, shape=(8, 8, 1), dtype="float64"):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input(shape, dtype=dtype),
                layers.Conv2D(3, 3, strides=2, name="conv", dtype=dtype),
                layers.BatchNormalization(name="norm", dtype=dtype),
                layers.Activation("tanh", name="tanh", dtype=dtype),
                *extra,
                layers.Flatten(name="flatten", dtype=dtype),
                layers.Dense(way, name="dense", dtype=dtype),
            ],
            name="smooth",
        )

    return make


@pytest.fixture(scope="session")
def scatter():
    """Moves every variable of a model away from its round starting value; variances stay positive."""

    def move(model, seed=0):
        generator = np.random.default_rng(seed)
        for v in model.variables:
            if "float" in v.dtype:
                noise = generator.uniform(0.1, 0.4, v.shape)
                v.assign(v.numpy() + noise * (1 if "variance" in v.path else generator.choice([-1, 1], v.shape)))
        return model

    return move


@pytest.fixture(scope="session")
def derivative_errors():
    """How far a scalar function's first and second derivatives are off central differences, relative."""

    def flat(tensors):
        return np.concatenate([np.ravel(t) for t in tensors])

    def measure(function, points, h=1e-5, seed=0):
        points = [tf.constant(p, tf.float64) for p in points]
        generator = np.random.default_rng(seed)
        direction = [tf.constant(generator.normal(size=p.shape)) for p in points]

        def value_and_gradient(points):
            with tf.GradientTape() as tape:
                tape.watch(points)
                value = function(*points)
            return value, tape.gradient(value, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        with tf.GradientTape() as tape:
            tape.watch(points)
            _, gradient = value_and_gradient(points)
            along = tf.add_n([tf.reduce_sum(g * d) for g, d in zip(gradient, direction, strict=True)])
        second = flat(tape.gradient(along, points, unconnected_gradients=tf.UnconnectedGradients.ZERO))
        ends = [value_and_gradient([p + s * h * d for p, d in zip(points, direction, strict=True)]) for s in (1, -1)]
        first_difference = (float(ends[0][0]) - float(ends[1][0])) / (2 * h)
        second_difference = (flat(ends[0][1]) - flat(ends[1][1])) / (2 * h)
        first_error = abs(first_difference - float(along)) / abs(first_difference)
        return first_error, np.linalg.norm(second_difference - second) / np.linalg.norm(second_difference)

    return measure


@pytest.fixture(scope="session")
def meta_gradient_errors():
    """For each trainable variable, its meta-gradient's deviation from central differences of the meta-loss."""

    def measure(learner, tasks, steps=(1e-5,), seed=0):
        compute = tf.function(learner.meta_gradient)
        gradients = compute(tasks)[0]
        floor = 1e-4 * max(np.linalg.norm(g) for g in gradients)
        generator = np.random.default_rng(seed)
        errors = {}
        for variable, gradient in zip(learner.trainable_variables, gradients, strict=True):
            start, direction = variable.numpy(), generator.normal(size=variable.shape)
            direction /= np.linalg.norm(direction)
            along = float(np.sum(gradient * direction))
            found = []
            for h in steps:
                ends = []
                for sign in (1, -1):
                    variable.assign(start + sign * h * direction)
                    ends.append(float(compute(tasks)[2]["meta_loss"]))
                found.append(abs((ends[0] - ends[1]) / (2 * h) - along))
            variable.assign(start)
            errors[variable.path] = min(found) / max(np.linalg.norm(gradient), floor)
        return errors

    return measure
