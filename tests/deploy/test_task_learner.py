from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.state_learner import state_learner
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.calibration import log_probabilities
from tf_mamlpp.meta.confidence import Confidence, KnownScore
from tf_mamlpp.meta.known_score import OF_LOGITS
from tf_mamlpp.training.confidence import _of_task

WAY = 3
PICTURES = PictureFormat((16, 16), 1, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def learner(scatter):
    model = mp.conv4((16, 16, 1), way=WAY, filters=4, blocks=2)
    learner = mp.MetaLearner(model, way=WAY, inner_steps=3, inner_rate=0.1, **mp.presets["maml++"])
    scatter(learner.model)
    return learner


@pytest.fixture(scope="module")
def pixels():
    """Support set of two pictures a class and five query pictures, grey values."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2 * WAY + 5, 16, 16, 1)).astype(np.float32)
    return images[: 2 * WAY], np.array([0, 0, 1, 1, 2, 2], np.int32), images[2 * WAY :]


@pytest.mark.parametrize("statistics, steps", [("support", 2), ("support", 5), ("running", 3), ("batch", 3)])
def test_equals_the_learner(learner, pixels, statistics, steps):
    images, labels, query = pixels
    deployed = task_learner(learner, PICTURES, inner_steps=steps, query_statistics=statistics)
    state = deployed.adapt(images, labels)
    assert state.shape == (deployed.state_size,)
    probabilities, logits = deployed.predict(state, query)
    adapted = learner.adapt(PICTURES.prepare(images), labels, steps, statistics)
    expected = learner.predict_adapted(adapted, PICTURES.prepare(query))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, rtol=1e-4, atol=1e-6)


def test_a_task_writes_no_variable(learner, pixels):
    before = [v.numpy() for v in learner.variables]
    deployed = task_learner(learner, PICTURES)
    deployed.predict(deployed.adapt(*pixels[:2]), pixels[2])
    for variable, value in zip(learner.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_with_support_statistics_a_prediction_depends_on_one_picture(learner, pixels):
    deployed = task_learner(learner, PICTURES)
    state = deployed.adapt(*pixels[:2])
    together = deployed.predict(state, pixels[2])[0]
    alone = tf.concat([deployed.predict(state, picture[None])[0] for picture in pixels[2]], 0)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)


def test_with_batch_statistics_it_does_not(learner, pixels):
    deployed = task_learner(learner, PICTURES, query_statistics="batch")
    state = deployed.adapt(*pixels[:2])
    assert np.abs(deployed.predict(state, pixels[2])[0][:1] - deployed.predict(state, pixels[2][:1])[0]).max() > 1e-3


def test_order_of_the_support_set_does_not_matter(learner, pixels):
    deployed = task_learner(learner, PICTURES)
    order = np.random.default_rng(1).permutation(2 * WAY)
    state = deployed.adapt(pixels[0][order], pixels[1][order])
    np.testing.assert_allclose(state, deployed.adapt(*pixels[:2]), rtol=1e-3, atol=1e-5)


def test_an_absent_class_has_probability_zero_and_the_others_sum_to_one(learner, pixels):
    deployed = task_learner(learner, PICTURES)
    present = pixels[1] != 1
    probabilities, logits = deployed.predict(deployed.adapt(pixels[0][present], pixels[1][present]), pixels[2])
    assert np.all(probabilities[:, 1] == 0)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, 1), 1, rtol=1e-6)
    expected = tf.nn.softmax(tf.gather(logits, [0, 2], axis=1))
    np.testing.assert_allclose(tf.gather(probabilities, [0, 2], axis=1), expected, rtol=1e-5)


def test_stamp_tells_weights_and_settings_apart(learner):
    def stamp(pictures=PICTURES, **settings):
        return task_learner(learner, pictures, **settings).stamp

    first = stamp()
    assert first == stamp() and first == int(first) and 0 <= first < 2**24
    assert (
        len({first, stamp(inner_steps=4), stamp(query_statistics="batch"), stamp(replace(PICTURES, mean=(0.4,)))}) == 4
    )
    bias = learner.model.trainable_variables[-1]
    value = bias.numpy()
    bias.assign(value + 1)
    try:
        assert stamp() != first
    finally:
        bias.assign(value)


@pytest.mark.slow
def test_one_row_of_statistics_and_head_only():
    """Statistics that all steps share, and frozen bodies, make a shorter state that works as well."""
    model = mp.conv4((16, 16, 1), way=WAY, filters=4, blocks=1)
    whole = mp.MetaLearner(model, way=WAY, inner_steps=2)
    head = mp.MetaLearner(model, way=WAY, inner_steps=2, adapted="head")
    sizes = {}
    for name, learner in (("whole", whole), ("head", head)):
        deployed = task_learner(learner, PICTURES)
        images = np.random.default_rng(0).integers(0, 256, (WAY, 16, 16, 1)).astype(np.float32)
        state = deployed.adapt(images, np.arange(WAY, dtype=np.int32))
        adapted = learner.adapt(PICTURES.prepare(images), np.arange(WAY))
        np.testing.assert_allclose(
            deployed.predict(state, images)[0],
            learner.predict_adapted(adapted, PICTURES.prepare(images)),
            rtol=1e-4,
            atol=1e-6,
        )
        sizes[name] = deployed.state_size
    convolution = 3 * 3 * 1 * 4 + 4
    assert sizes["whole"] - sizes["head"] == convolution
    dense = 8 * 8 * 4 * WAY + WAY
    assert sizes["head"] == 1 + WAY + dense + 2 * 4


@pytest.mark.parametrize(
    "settings, message",
    [({"query_statistics": "both"}, "query_statistics is one of")]
    + [({"inner_steps": n}, f"inner_steps must be at least 1, not {n}") for n in (0, -1)],
)
def test_refuses_settings(learner, settings, message):
    with pytest.raises(UserError, match=message):
        task_learner(learner, PICTURES, **settings)


def test_refuses_regression_and_float64(smooth_model):
    import keras

    regression = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(UserError, match="only classifiers"):
        task_learner(mp.MetaLearner(regression, loss="mean_squared_error"), PICTURES)
    with pytest.raises(UserError, match="float64"):
        task_learner(mp.MetaLearner(smooth_model(), way=3), PICTURES)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("softmax", None),
        ("softmax", "categorical_crossentropy"),
        (None, "categorical_crossentropy"),
        (None, "binary_crossentropy"),
        ("sigmoid", keras.losses.BinaryCrossentropy()),
    ],
)
def test_probabilities_and_logits_are_those_of_the_head(pixels, activation, loss):
    images, labels, query = pixels
    layers = [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(WAY, activation)]
    learner = mp.MetaLearner(keras.Sequential(layers), way=WAY, inner_steps=1, inner_rate=0.1, loss=loss)
    deployed = task_learner(learner, PICTURES)
    probabilities, logits = deployed.predict(deployed.adapt(images, labels), query)
    targets = labels if loss is None else tf.one_hot(labels, WAY)
    adapted = learner.adapt(PICTURES.prepare(images), targets)
    np.testing.assert_allclose(probabilities, learner.predict_adapted(adapted, PICTURES.prepare(query)), atol=1e-5)
    independent = learner.output_kind.independent
    again = tf.sigmoid(logits) if independent else tf.nn.softmax(logits)
    np.testing.assert_allclose(again, probabilities, atol=1e-5)
    few, _ = deployed.predict(deployed.adapt(images[labels != 1], labels[labels != 1]), query)
    assert not few.numpy()[:, 1].any()
    assert np.allclose(tf.reduce_sum(few, 1), 1) != independent


# --- Confidence ------------------------------------------------------------------------------------------

KNOWN = {
    name: KnownScore(name, slope=0.7, intercept=-0.4, threshold=0.5) for name in ("largest_logit", "energy", "distance")
}


@pytest.mark.parametrize("score", ["largest_logit", "energy"])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [2, 0, 0, 2, 2, 2]])
def test_confidence(learner, pixels, score, labels):
    """The formulas in NumPy, of all classes and of two: those that are not there count for nothing."""
    plain = task_learner(learner, PICTURES)
    calibrated = task_learner(learner, PICTURES, confidence=Confidence(2.5, KNOWN[score]))
    state = calibrated.adapt(pixels[0], np.array(labels, np.int32))
    np.testing.assert_array_equal(state, plain.adapt(pixels[0], np.array(labels, np.int32)))  # its stamp too
    found = calibrated.predictions(state, pixels[2])
    np.testing.assert_array_equal(found["logits"], plain.predict(state, pixels[2])[1])
    there = sorted(set(labels))
    among = found["logits"].numpy()[:, there]
    np.testing.assert_allclose(
        found["probabilities"].numpy()[:, there], np.exp(log_probabilities(among, 2.5)), rtol=1e-5
    )
    np.testing.assert_allclose(tf.reduce_sum(found["probabilities"], 1), 1, rtol=1e-5)
    np.testing.assert_allclose(found["known"], KNOWN[score](OF_LOGITS[score](among)), rtol=1e-5)
    assert "known" not in plain.predictions(state, pixels[2])


@pytest.mark.parametrize("head", ["learned", "shared", "prototypes"])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [1, 0, 0, 1, 1, 1]])
def test_distance_to_the_nearest_class(scatter, pixels, head, labels):
    """Beside the features of the adapted model, made of Keras's own layers."""
    model = scatter(mp.conv4((16, 16, 1), way=WAY, filters=4, blocks=2))
    learner = mp.MetaLearner(model, way=WAY, inner_steps=2, inner_rate=0.05, head=head)
    score = KnownScore("distance", slope=0.02, intercept=0.5, threshold=0.5)
    plain, telling = (task_learner(learner, PICTURES, confidence=c) for c in (None, Confidence(1.0, score)))
    labels = np.array(labels, np.int32)
    state, without = telling.adapt(pixels[0], labels), plain.adapt(pixels[0], labels)
    assert telling.stamp != plain.stamp
    way = labels.max() + 1 if head != "learned" else WAY
    assert state.shape == (telling.size_of(way),) and len(state) - len(without) == way * 4 * 4 * 4
    np.testing.assert_array_equal(state[1 : len(without)], without[1:])
    found = telling.predictions(state, pixels[2])
    np.testing.assert_allclose(found["logits"], plain.predict(without, pixels[2])[1], rtol=1e-4, atol=1e-5)

    adapted = learner.adapt(PICTURES.prepare(pixels[0]), labels)
    whole = learner.adapted_model(adapted) if head == "learned" else None
    if whole is None:
        return
    features = keras.Model(whole.inputs, whole.layers[-1].input)
    support, queries = (features(PICTURES.prepare(x)).numpy() for x in (pixels[0], pixels[2]))
    means = np.stack([support[labels == label].mean(0) for label in set(labels)])
    near = -np.square(queries[:, None] - means).sum(-1).min(-1)
    np.testing.assert_allclose(found["known"], score(near), rtol=1e-3)
    alone = telling.predictions(state, pixels[2][:1])["known"]
    np.testing.assert_allclose(alone, found["known"][:1], rtol=1e-5)


@pytest.mark.parametrize("statistics", ["running", "batch", "support"])
def test_a_run_measures_the_distance_that_is_exported(learner, pixels, statistics):
    score = KnownScore("distance", slope=0.01, intercept=0.5, threshold=0.5)
    deployed = task_learner(learner, PICTURES, query_statistics=statistics, confidence=Confidence(1.0, score))
    found = deployed.predictions(deployed.adapt(*pixels[:2]), pixels[2])
    task = {"support_images": PICTURES.prepare(pixels[0]), "support_labels": tf.constant(pixels[1])}
    task |= {"query_images": PICTURES.prepare(pixels[2]), "way": WAY}
    logits, distance = _of_task(learner, task, learner.inner_steps, statistics)
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["known"], score(distance), rtol=1e-3)


def test_a_model_that_ends_in_softmax_is_calibrated_too(pixels):
    layers = [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(WAY), keras.layers.Softmax()]
    learner = mp.MetaLearner(keras.Sequential(layers), way=WAY, inner_steps=2)
    deployed = task_learner(learner, PICTURES, confidence=Confidence(3.0, KNOWN["largest_logit"]))
    state = deployed.adapt(*pixels[:2])
    probabilities, logits = deployed.predict(state, pixels[2])
    np.testing.assert_allclose(probabilities, np.exp(log_probabilities(logits, 3.0)), rtol=1e-4)
    assert deployed.predictions(state, pixels[2])["known"].shape == (5,)
    with pytest.raises(UserError, match="ends in no dense layer: it has no score 'distance'"):
        task_learner(learner, PICTURES, confidence=Confidence(3.0, KNOWN["distance"]))


def test_answers_of_their_own_have_no_confidence():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(WAY)])
    learner = mp.MetaLearner(model, way=WAY, loss="binary_crossentropy")
    with pytest.raises(UserError, match="confidence is of a choice of classes"):
        state_learner(learner, confidence=Confidence(2.0))
