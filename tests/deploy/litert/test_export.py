"""The LiteRT export: built-in operators only, and the learner's own numbers."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp import MetaLearner, conv4, mlp, presets
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.litert.export import Signatures, _convert, export_litert
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.confidence import Confidence, KnownScore
from tf_mamlpp.models import resnet12

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs pip install tf_mamlpp[litert]")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def pictures(shape):
    *size, channels = shape
    return PictureFormat(tuple(size), channels, mean=(0.4,), std=(0.3,))


def convert(learner, shape, **settings):
    """The content of a .tflite file."""
    module = Signatures(task_learner(learner, pictures(shape), **settings))
    return _convert(module, module.by_name())


def make_learner(model, way, scatter, preset="maml++", **settings):
    settings = {"inner_steps": 2, "inner_rate": 0.05, **presets[preset], **settings}
    learner = MetaLearner(model, way=way, **settings)
    scatter(learner.model)
    return learner


def draw(count, shape, seed, flat=False):
    """Noise, or dark bars on white paper, where most windows hold one value many times."""
    generator = np.random.default_rng(seed)
    if not flat:
        return generator.integers(0, 256, (count, *shape)).astype(np.float32)
    paper = np.full((count, *shape), 255, np.float32)
    for picture in paper:
        for _ in range(3):
            y, x = (generator.integers(0, n - 2) for n in shape[:2])
            picture[y : y + generator.integers(1, 9), x : x + generator.integers(1, 9)] = 30
    return paper


def runners(content, threads=1):
    interpreter = interpreters.Interpreter(model_content=content, num_threads=threads)
    adapt, predict = (interpreter.get_signature_runner(name) for name in ("adapt", "predict"))
    return (
        lambda images, labels: adapt(support_images=images, support_labels=np.array(labels, np.int32))["state"],
        lambda state, images: predict(state=state, images=images),
    )


def assert_agrees(learner, content, shape, statistics, labels, queries, flat=False):
    """LiteRT's predictions are those of `MetaLearner.adapt` and `predict_adapted` on normalised pictures."""
    support, images = draw(len(labels), shape, 1, flat), draw(queries, shape, 2, flat)
    adapt, predict = runners(content)
    found = predict(adapt(support, labels), images)

    # Rounding may move a ReLU or a pool over its kink.  Then the learner's prediction depends on the pictures' order.
    errors = []
    for order in (np.arange(len(labels)), np.arange(len(labels))[::-1]):
        adapted = learner.adapt(ready(support[order]), np.array(labels, np.int32)[order], query_statistics=statistics)
        wanted = learner.predict_adapted(adapted, ready(images)).numpy() * np.isin(np.arange(learner.way), labels)
        errors.append(np.abs(found["probabilities"] - wanted / wanted.sum(-1, keepdims=True)).max())
    assert min(errors) < 1e-4


def ready(pixels):
    return (pixels / 255 - 0.4) / 0.3


def operators(content):
    """The names of a model's operators, and those that are no built-in ones."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items()}
    used = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    return {names[code] for code in used}, [code.customCode for code in model.operatorCodes if code.customCode]


SHAPE = (13, 15, 1)


@pytest.fixture(scope="module")
def learner(scatter):
    keras.utils.set_random_seed(0)
    return make_learner(conv4(SHAPE, 4, filters=6, blocks=2), 4, scatter)


@pytest.fixture(scope="module")
def exported(learner, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "models" / "letters.tflite"
    described = export_litert(task_learner(learner, pictures(SHAPE)), path, metadata={"train_steps": 7})
    return path, described


@pytest.fixture(scope="module")
def content(exported):
    return exported[0].read_bytes()


def test_only_builtin_operators(content):
    names, custom = operators(content)
    assert not custom and "CUSTOM" not in names and "BATCH_MATMUL" in names


@pytest.mark.parametrize(
    ("labels", "queries", "flat"),
    [([0, 1, 2, 3], 5, False), ([3, 1, 0, 2, 2, 1, 0, 3], 1, False), ([2, 0], 2, False), ([0, 1, 2, 3], 3, True)],
    ids=["one shot", "two shots, one query", "missing classes", "large areas of one value"],
)
def test_agrees_with_the_learner(learner, content, labels, queries, flat):
    assert_agrees(learner, content, SHAPE, "support", labels, queries, flat)


@pytest.mark.parametrize(
    ("score", "head"), [("energy", "learned"), ("distance", "learned"), ("distance", "prototypes")]
)
def test_confidence(scatter, score, head):
    """Built-in operators alone, and the numbers of the task learner; with a class that has no pictures."""
    confidence = Confidence(2.5, KnownScore(score, slope=0.02, intercept=0.4, threshold=0.5))
    settings = {"head": head, "temperature": 2.0} if head == "prototypes" else {"head": head}
    learner = make_learner(mlp(SHAPE, 4, (8,)), 4, scatter, **settings)
    deployed = task_learner(learner, pictures(SHAPE), confidence=confidence)
    module = Signatures(deployed)
    content = _convert(module, module.by_name())
    assert not operators(content)[1]
    adapt, predict = runners(content)
    labels = [0, 1, 2, 3] if head == "prototypes" else [2, 0, 2, 0]
    state = adapt(draw(4, SHAPE, 1), labels)
    found = predict(state, draw(5, SHAPE, 2))
    wanted = deployed.predictions(tf.constant(state), draw(5, SHAPE, 2))
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-4)
    np.testing.assert_allclose(found["known"], wanted["known"], atol=1e-4)
    assert 0.01 < found["known"].min() and found["known"].max() < 0.99
    assert np.isnan(predict(state + 1, draw(1, SHAPE, 2))["known"]).all()


def test_one_interpreter_serves_any_number_of_pictures(content):
    adapt, predict = runners(content, threads=2)
    predictions = []
    for labels in ([0, 1, 2, 3], [0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3]):
        state = adapt(draw(len(labels), SHAPE, 1), labels)
        together = predict(state, draw(6, SHAPE, 2))["probabilities"]
        alone = predict(state, draw(6, SHAPE, 2)[:1])["probabilities"]
        np.testing.assert_allclose(alone, together[:1], rtol=0, atol=1e-6)
        predictions.append(together)
    np.testing.assert_array_equal(predictions[0], predictions[2])
    assert np.abs(predictions[0] - predictions[1]).max() > 1e-3


def test_states_are_those_of_the_saved_model(learner, content):
    plain = task_learner(learner, pictures(SHAPE))
    adapt, predict = runners(content)
    images, query, labels = draw(4, SHAPE, 1), draw(2, SHAPE, 2), [0, 1, 2, 3]
    ours, theirs = adapt(images, labels), plain.adapt(tf.constant(images), tf.constant(labels))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        predict(theirs.numpy(), query)["logits"],
        plain.predict(tf.constant(ours), tf.constant(query))[1],
        rtol=0,
        atol=1e-3,
    )


def test_what_a_saved_model_refuses_is_nan(content):
    adapt, predict = runners(content)
    images, large = draw(2, SHAPE, 1), draw(2, (14, 15, 1), 1)
    for given, labels in ((images, [0, 4]), (images, [-1, 0]), (images, [0]), (large, [0, 1])):
        assert np.isnan(adapt(given, labels)).all()
    state = adapt(images, [0, 1])
    for wrong in ((state + 1, images), (state, large)):
        prediction = predict(*wrong)
        assert np.isnan(prediction["logits"]).all() and np.isnan(prediction["probabilities"]).all()
    with pytest.raises(RuntimeError):
        predict(state[1:], images)


def test_metadata_travels_in_the_file(exported, content):
    path, described = exported
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("metadata.json")) == described
    assert (described["way"], described["inner_steps"], described["train_steps"]) == (4, 2, 7)
    assert described["pictures"]["trained_size"] == [13, 15]
    assert described["state_size"] == len(runners(content)[0](draw(1, SHAPE, 1), [0]))
    assert [p.name for p in path.parent.iterdir()] == ["letters.tflite"]


@pytest.mark.slow
def test_pictures_with_remainders_in_colour_and_batch_statistics(scatter):
    shape = (11, 14, 3)
    learner = make_learner(conv4(shape, 3, filters=4, blocks=2), 3, scatter, "maml", inner_steps=1)
    content = convert(learner, shape, query_statistics="batch")
    assert not operators(content)[1]
    assert_agrees(learner, content, shape, "batch", [0, 1, 2, 2], 4)


def test_every_layer_converts(scatter):
    layers, inputs = keras.layers, keras.Input((9, 10, 2))
    x = layers.Conv2D(3, 3, strides=2, padding="same", activation="tanh")(layers.ZeroPadding2D(1)(inputs))
    x = layers.Add()([layers.Conv2D(3, 2, dilation_rate=2, padding="same", activation="silu")(x), x])
    x = layers.Concatenate()([layers.MaxPooling2D(3, 1, "same")(x), layers.AveragePooling2D(3, 1, "same")(x)])
    x = layers.ReLU()(layers.AveragePooling2D(2)(layers.LeakyReLU(0.1)(x)))
    pooled = layers.Dense(2, "elu")(layers.GlobalAveragePooling2D()(x))
    flat = layers.Dense(2, "sigmoid")(layers.Flatten()(layers.Reshape((-1, 6))(layers.Dropout(0.5)(x))))
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([pooled, flat])))
    learner = make_learner(model, 3, scatter, "maml", inner_steps=1)
    content = convert(learner, (9, 10, 2))
    assert not operators(content)[1]
    assert_agrees(learner, content, (9, 10, 2), "support", [0, 1, 2], 2)


@pytest.mark.slow
def test_head_of_an_mlp(scatter):
    model = keras.Sequential([mlp((4, 5, 1), 6, units=(7,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)])
    learner = make_learner(model, 3, scatter, "anil")
    content = convert(learner, (4, 5, 1), query_statistics="running")
    assert not operators(content)[1]
    assert_agrees(learner, content, (4, 5, 1), "running", [0, 1, 2], 2)


def test_other_losses_are_refused(scatter):
    learner = make_learner(mlp((2, 2, 1), 2), 2, scatter, loss=lambda labels, outputs: tf.reduce_mean(outputs**2, -1))
    with pytest.raises(UserError, match="only cross-entropy"):
        convert(learner, (2, 2, 1))


def test_files_are_not_overwritten(learner, exported, tmp_path):
    (tmp_path / "link.tflite").symlink_to(tmp_path / "nowhere")
    for taken in (exported[0], tmp_path / "link.tflite"):
        with pytest.raises(UserError, match="exists already"):
            export_litert(task_learner(learner, pictures(SHAPE)), taken)


@pytest.mark.slow
def test_a_full_disk_is_told(learner, tmp_path, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(UserError, match="cannot write in '.*': No space left on device; free some space"):
        export_litert(task_learner(learner, pictures(SHAPE)), tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape", "shots"),
    [
        (lambda: conv4((28, 28, 1), 5), (28, 28, 1), 1),
        (lambda: conv4((84, 84, 3), 5, filters=48), (84, 84, 3), 1),
        (lambda: conv4((42, 42, 3), 5, filters=16, strided=True), (42, 42, 3), 5),
        (lambda: resnet12.resnet12((32, 32, 3), 5, widths=(8, 12)), (32, 32, 3), 1),
    ],
    ids=["omniglot", "mini-imagenet", "strided", "resnet12"],
)
def test_real_networks(make, shape, shots):
    learner = MetaLearner(make(), way=5, inner_steps=5, inner_rate=0.01, **presets["maml++"])
    content = convert(learner, shape)
    assert not operators(content)[1]
    assert_agrees(learner, content, shape, "support", list(range(5)) * shots, 5)
