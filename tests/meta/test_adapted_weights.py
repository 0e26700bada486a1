"""Which weights the inner loop changes."""

import keras
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.meta.adapted_weights import adapted_variables
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.models.conv4 import conv4


@pytest.fixture
def model():
    return convert_normalization(conv4((8, 8, 1), 3, filters=2, blocks=2), 2, per_step_weights=True)


def names(model, adapted):
    chosen = adapted_variables(model, adapted)
    return ["/".join(model.trainable_variables[i].path.split("/")[-2:]) for i in chosen]


def test_all_but_batch_norm(model):
    kernels_and_biases = [f"{layer}/{w}" for layer in ("conv0", "conv1", "dense") for w in ("kernel", "bias")]
    assert names(model, "all") == kernels_and_biases


def test_the_head_is_the_last_layer_with_weights(model):
    assert names(model, "head") == ["dense/kernel", "dense/bias"]
    inputs = keras.Input((8, 8, 1))
    nested = keras.Model(inputs, keras.layers.ReLU()(keras.layers.Dense(3, name="top")(model(inputs))))
    assert names(nested, "head") == ["top/kernel", "top/bias"]


def test_the_head_of_a_nested_model_is_its_inner_models_last_layer():
    inner = keras.Sequential([keras.layers.Dense(4, name="first"), keras.layers.Dense(3, name="last")])
    assert names(keras.Sequential([keras.Input((2,)), inner]), "head") == ["last/kernel", "last/bias"]


def test_the_head_is_found_where_two_layers_have_one_path():
    pictures, inputs = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    features = keras.layers.Dense(4, name="dense")(keras.layers.Flatten()(pictures))
    encoder = keras.Model(pictures, features, name="encoder")
    model = keras.Model(inputs, keras.layers.Dense(3, name="dense")(encoder(inputs)))
    assert len({v.path for v in model.trainable_variables}) == 2
    assert adapted_variables(model, "head") == [2, 3]
    assert adapted_variables(model, "body") == [0, 1]
    assert MetaLearner(model, way=3, inner_steps=1, adapted="head").functional_model.adapted == [2, 3]


def test_a_frozen_head_is_no_head_to_adapt(model):
    model.get_layer("dense").trainable = False
    with pytest.raises(UserError, match="the head of model 'conv4', its last layer, is frozen"):
        adapted_variables(model, "head")
    assert names(model, "body") == names(model, "all") == ["conv0/kernel", "conv0/bias", "conv1/kernel", "conv1/bias"]
    with pytest.raises(UserError, match="the head of model 'conv4', its last layer, is frozen"):
        MetaLearner(model, way=3, inner_steps=2, head="shared", per_step_weights=True)


def test_the_body_is_all_but_the_head(model):
    assert names(model, "body") + names(model, "head") == names(model, "all")


def test_a_predicate_on_the_path(model):
    assert names(model, lambda path: "conv1" in path) == ["conv1/kernel", "conv1/bias"]


def test_a_regular_expression_on_the_path(model):
    assert names(model, "conv1|dense/kernel") == ["conv1/kernel", "conv1/bias", "dense/kernel"]


def test_frozen_layers_are_left_alone(model):
    model.get_layer("conv0").trainable = False
    assert names(model, "all") == ["conv1/kernel", "conv1/bias", "dense/kernel", "dense/bias"]


@pytest.mark.parametrize(
    ("adapted", "message"),
    [
        ("tail", "adapted='tail' leaves the inner loop no weight .* all, head, body, or matches paths such as 'conv4/"),
        (lambda path: False, "leaves the inner loop no weight to change in model 'conv4'"),
        (lambda path: "norm" in path, "leaves the inner loop no weight"),
    ],
)
def test_refusals(model, adapted, message):
    with pytest.raises(UserError, match=message):
        adapted_variables(model, adapted)
