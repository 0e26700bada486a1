import base64
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tf_mamlpp as mp
from tf_mamlpp.data.images import decode_file, resize
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.saved_model import Signatures, export_saved_model
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError

WAY = 3
PICTURES = PictureFormat((12, 14), 1, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def learner(scatter):
    model = mp.conv4((12, 14, 1), way=WAY, filters=4, blocks=2)
    learner = mp.MetaLearner(model, way=WAY, inner_steps=2, inner_rate=0.1, **mp.presets["maml++"])
    scatter(learner.model)
    return learner


@pytest.fixture(scope="module")
def deployed(learner):
    return task_learner(learner, PICTURES)


@pytest.fixture(scope="module")
def exported(deployed, tmp_path_factory):
    """The folder of a SavedModel, and what metadata.json should hold."""
    folder = tmp_path_factory.mktemp("export") / "model"
    return folder, export_saved_model(deployed, folder, metadata={"note": "more"})


@pytest.fixture(scope="module")
def model(exported):
    return tf.saved_model.load(str(exported[0])).signatures


def pictures(count, size=(12, 14), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 1)).astype(np.float32)


def call(model, name, **inputs):
    return {k: v.numpy() for k, v in model[name](**{k: tf.constant(v) for k, v in inputs.items()}).items()}


LABELS = np.array([2, 0, 1, 1], np.int32)


def test_adapt_then_predict_equals_both_at_once(model):
    support, query = pictures(4), pictures(5, seed=1)
    state = call(model, "adapt", support_images=support, support_labels=LABELS)["state"]
    apart = call(model, "predict", state=state, images=query)
    both = call(model, "serving_default", support_images=support, support_labels=LABELS, query_images=query)
    for name in ("probabilities", "logits"):
        assert apart[name].shape == (5, WAY)
        np.testing.assert_array_equal(apart[name], both[name])


def test_equals_the_task_learner(model, deployed):
    support, query = pictures(4), pictures(5, seed=1)
    state = call(model, "adapt", support_images=support, support_labels=LABELS)["state"]
    np.testing.assert_allclose(state, deployed.adapt(support, LABELS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        call(model, "predict", state=state, images=query)["probabilities"],
        deployed.predict(state, query)[0],
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("count", [1, 2, 9])
def test_any_number_of_pictures(model, count):
    labels = np.arange(count, dtype=np.int32) % WAY
    support, query = pictures(count), pictures(count, seed=1)
    answer = call(model, "serving_default", support_images=support, support_labels=labels, query_images=query)
    np.testing.assert_allclose(answer["probabilities"].sum(1), 1, rtol=1e-5)
    assert np.all(answer["probabilities"][:, count:] == 0)


def test_one_picture_does_not_depend_on_its_neighbours(model):
    state = call(model, "adapt", support_images=pictures(4), support_labels=LABELS)["state"]
    query = pictures(6, seed=1)
    together = call(model, "predict", state=state, images=query)["probabilities"]
    for i in range(len(query)):
        alone = call(model, "predict", state=state, images=query[i : i + 1])["probabilities"]
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-5, atol=1e-7)


@pytest.mark.slow_cases("size0", "size2", "size3")
@pytest.mark.parametrize("size", [(12, 14), (31, 20), (5, 14), (105, 105)])
def test_pictures_of_any_size_are_resized_as_in_training(model, size):
    support, query = pictures(4, size), pictures(3, size, seed=1)
    state = call(model, "adapt", support_images=support, support_labels=LABELS)["state"]
    for name, dtype in (("predict", np.float32), ("predict_uint8", np.uint8)):
        given = call(model, name, state=state, images=query.astype(dtype))["logits"]
        sized = call(model, "predict", state=state, images=resize(query, (12, 14)).numpy())["logits"]
        np.testing.assert_array_equal(given, sized)


@pytest.mark.slow
def test_pictures_are_cropped_where_training_crops(learner):
    support = pictures(4, (30, 15))
    sized = {}
    for policy in ("stretch", "crop"):
        deployed = task_learner(learner, replace(PICTURES, resize_policy=policy))
        state = Signatures(deployed)._adapt(tf.constant(support), tf.constant(LABELS))
        np.testing.assert_allclose(state, deployed.adapt(resize(support, (12, 14), policy), LABELS), atol=1e-4)
        sized[policy] = state.numpy()
    assert np.abs(sized["crop"] - sized["stretch"]).max() > 1e-2


def test_uint8_and_float_adapt_the_same(model):
    support = pictures(4)
    floats = call(model, "adapt", support_images=support, support_labels=LABELS)["state"]
    bytes_ = call(model, "adapt_uint8", support_images=support.astype(np.uint8), support_labels=LABELS)["state"]
    np.testing.assert_array_equal(floats, bytes_)


def encoded(image, form):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def test_encoded_pictures_equal_what_training_reads(model):
    """Files of several kinds and sizes through the graph's decoder, and through training's own."""
    generator = np.random.default_rng(3)
    files = [
        encoded(generator.integers(0, 256, shape, np.uint8), form)
        for shape, form in (((30, 20, 3), "PNG"), ((17, 9), "PNG"), ((40, 33, 3), "JPEG"), ((12, 14), "JPEG"))
    ]
    sized = np.stack([resize(decode_file(f, 1), (12, 14)) for f in files])
    state = call(model, "adapt_encoded", support_images=np.array(files, object), support_labels=LABELS)["state"]
    np.testing.assert_array_equal(state, call(model, "adapt", support_images=sized, support_labels=LABELS)["state"])
    np.testing.assert_array_equal(
        call(model, "predict_encoded", state=state, images=np.array(files, object))["logits"],
        call(model, "predict", state=state, images=sized)["logits"],
    )


def test_a_batch_of_tasks_equals_task_by_task(model):
    support, query = pictures(8).reshape(2, 4, 12, 14, 1), pictures(6, seed=1).reshape(2, 3, 12, 14, 1)
    labels = np.stack([LABELS, LABELS[::-1]])
    tasks = call(model, "adapt_and_predict_tasks", support_images=support, support_labels=labels, query_images=query)
    for i in range(2):
        alone = call(
            model, "serving_default", support_images=support[i], support_labels=labels[i], query_images=query[i]
        )
        np.testing.assert_allclose(tasks["logits"][i], alone["logits"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(tasks["probabilities"][i], alone["probabilities"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow_cases("2-2-1")
@pytest.mark.parametrize("supports, labels, queries", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (0, 0, 0)])
def test_a_batch_with_other_numbers_of_tasks_is_refused(model, supports, labels, queries):
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many tasks each, at least one"):
        call(
            model,
            "adapt_and_predict_tasks",
            support_images=np.zeros((supports, 4, 12, 14, 1), np.float32),
            support_labels=np.zeros((labels, 4), np.int32),
            query_images=np.zeros((queries, 1, 12, 14, 1), np.float32),
        )


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.full((4, 12, 14, 1), np.nan, np.float32), [0, 1, 2, 0], "must be finite"),
        (pictures(4), [0, 1, 2, 3], r"must be 0\.\.2 for this 3-way model"),
        (pictures(4), [0, 1, -1, 2], r"must be 0\.\.2"),
        (pictures(4), [0, 1, 2], "one label"),
        (pictures(0), [], "support set is empty"),
    ],
)
def test_a_wrong_support_set_is_refused_by_the_graph(model, images, labels, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(model, "adapt", support_images=images, support_labels=np.array(labels, np.int32))


def test_a_wrong_state_is_refused_by_the_graph(model):
    state = call(model, "adapt", support_images=pictures(4), support_labels=LABELS)["state"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
        call(model, "predict", state=state[:-1], images=pictures(1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="learned by another model"):
        call(model, "predict", state=state + 1, images=pictures(1))


def test_metadata(exported, model):
    folder, described = exported
    held = json.loads((folder / "metadata.json").read_text())
    assert held == described
    assert held["way"] == WAY and held["inner_steps"] == 2 and held["query_statistics"] == "support"
    assert held["pictures"] == {
        "range": [0, 255],
        "channels": 1,
        "trained_size": [12, 14],
        "resize": "stretch",
        "mean": [0.5],
        "std": [0.25],
    }
    assert held["note"] == "more"
    assert set(held["signatures"]) == set(model)
    state = call(model, "adapt", support_images=pictures(4), support_labels=LABELS)["state"]
    assert held["state_size"] == len(state) and held["stamp"] == state[0]
    assert held["signatures"]["predict"] == {
        "inputs": {
            "images": {"dtype": "float32", "shape": [None, None, None, 1]},
            "state": {"dtype": "float32", "shape": [None]},
        },
        "outputs": {
            "logits": {"dtype": "float32", "shape": [None, WAY]},
            "probabilities": {"dtype": "float32", "shape": [None, WAY]},
        },
    }
    assert held["signatures"]["adapt_encoded"]["inputs"]["support_images"] == {"dtype": "string", "shape": [None]}


@pytest.mark.slow
def test_each_function_is_traced_once(learner, monkeypatch):
    """However many signatures and sizes there are, the inner loop itself is in the file once."""
    deployed = task_learner(learner, PICTURES)
    traced = []
    adapt, predict = deployed.adapt, deployed.predict
    monkeypatch.setattr(deployed, "adapt", lambda *a: traced.append("adapt") or adapt(*a))
    monkeypatch.setattr(deployed, "predict", lambda *a: traced.append("predict") or predict(*a))
    signatures = Signatures(deployed).by_name()
    assert sorted(traced) == ["adapt", "predict"]
    for count, size in ((1, (12, 14)), (5, (12, 14)), (5, (40, 40))):
        labels = tf.zeros(count, tf.int32)
        images = tf.constant(pictures(count, size))
        signatures["serving_default"](support_images=images, support_labels=labels, query_images=images)
    assert sorted(traced) == ["adapt", "predict"]


ALONE = """
import sys
refused = dict.fromkeys(("keras", "tf_keras", "tf_mamlpp"))
sys.modules.update(refused)  # importing any of them raises ModuleNotFoundError
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
data = np.load(sys.argv[2])
state = model.signatures["adapt"](support_images=data["support"], support_labels=data["labels"])["state"]
answer = model.signatures["predict"](state=state, images=data["query"])["probabilities"]
assert all(sys.modules[name] is None for name in refused)
np.save(sys.argv[3], answer)
"""


def test_tensorflow_alone_is_enough(exported, model, tmp_path):
    """In a process in which Keras and this package cannot be imported."""
    support, query = pictures(4), pictures(2, seed=1)
    np.savez(tmp_path / "in.npz", support=support, labels=LABELS, query=query)
    arguments = [exported[0], tmp_path / "in.npz", tmp_path / "out.npy"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    here = call(model, "serving_default", support_images=support, support_labels=LABELS, query_images=query)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), here["probabilities"], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def served(exported):
    """Answers a request as TensorFlow Serving does: the SavedModel in a C++ session, fed by tensor name.

    The body has the columnar form of its REST API: `inputs`, by name, nested lists and `{"b64": ...}` for bytes; the
    answer has `outputs`.
    """
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(exported[0])).signature_def

    def tensor(value, dtype):
        if isinstance(value, dict):
            return base64.b64decode(value["b64"])
        return [tensor(v, dtype) for v in value] if isinstance(value, list) else value

    def answer(body):
        request = json.loads(body)
        signature = signatures[request.get("signature_name", "serving_default")]
        assert request["inputs"].keys() == signature.inputs.keys()
        feeds = {
            info.name: np.array(tensor(request["inputs"][name], info.dtype), tf.as_dtype(info.dtype).as_numpy_dtype)
            for name, info in signature.inputs.items()
        }
        outputs = session.run({name: info.name for name, info in signature.outputs.items()}, feeds)
        named = {name: value.tolist() for name, value in outputs.items()}
        return json.dumps({"outputs": named if len(named) > 1 else next(iter(named.values()))})

    yield answer
    session.close()


def test_a_server_answers_json(served, model):
    """adapt, then predict, with pictures as numbers; the state travels as JSON in between."""
    support, query = pictures(4, (20, 10)), pictures(2, seed=1)
    body = {
        "signature_name": "adapt",
        "inputs": {"support_images": support.tolist(), "support_labels": LABELS.tolist()},
    }
    state = json.loads(served(json.dumps(body)))["outputs"]
    body = {"signature_name": "predict", "inputs": {"state": state, "images": query.tolist()}}
    there = json.loads(served(json.dumps(body)))["outputs"]
    here = call(model, "serving_default", support_images=support, support_labels=LABELS, query_images=query)
    for name in ("probabilities", "logits"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-5)


def test_a_server_answers_files_in_base64(served, model):
    files = [encoded(picture[..., 0].astype(np.uint8), "PNG") for picture in pictures(4)]
    items = [{"b64": base64.b64encode(f).decode()} for f in files]
    body = {
        "signature_name": "adapt_and_predict_encoded",
        "inputs": {"support_images": items, "support_labels": LABELS.tolist(), "query_images": items[:1]},
    }
    there = json.loads(served(json.dumps(body)))["outputs"]
    here = call(
        model, "serving_default", support_images=pictures(4), support_labels=LABELS, query_images=pictures(4)[:1]
    )
    np.testing.assert_allclose(there["probabilities"], here["probabilities"], rtol=1e-4, atol=1e-6)


def test_a_taken_folder_is_left_alone(deployed, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_saved_model(deployed, tmp_path / "model")
    assert [f.name for f in tmp_path.rglob("*")] == ["model", "mine.txt"]


@pytest.mark.slow
def test_a_failed_export_leaves_nothing(deployed, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(UserError, match="No space left"):
        export_saved_model(deployed, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_is_refused(deployed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_saved_model(deployed, tmp_path / "file" / "model")
