import sys

import keras
import numpy as np
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.gradient_check import in_float64
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.models.by_name import build


@pytest.mark.parametrize(
    ("name", "settings", "layer", "width"),
    [
        ("conv4", {"filters": 6, "blocks": 2}, "conv1", 6),
        ("conv4", {"filters": 6, "blocks": 2, "strided": True}, "conv1", 6),
        ("resnet12", {"widths": (2, 7)}, "conv1_2", 7),
        ("mlp", {}, "dense1", 40),
        ("conv1d", {"filters": 6, "blocks": 2}, "conv1", 6),
        ("gru", {"filters": 6}, "gru", 18),
    ],
)
def test_networks_of_this_package(name, settings, layer, width):
    model = build(name, (8, 8, 3), 5, dtype="float64", **settings)
    assert model.output_shape == (None, 5)
    assert model.get_layer(layer).weights[0].shape[-1] == width
    assert {v.dtype for v in model.trainable_variables} == {"float64"}
    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert bool(pools) == (name in ("conv4", "resnet12") and not settings.get("strided"))


@pytest.mark.slow
def test_networks_of_keras_applications(tmp_path):
    model = build("keras:MobileNetV3Small", (32, 32, 3), 7)
    assert model.output.shape == (None, 7)
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    body = keras.Model(model.input, model.layers[-1].input)
    body.save_weights(tmp_path / "body.weights.h5")
    other = build("keras:MobileNetV3Small", (32, 32, 3), 4, weights=str(tmp_path / "body.weights.h5"))
    np.testing.assert_array_equal(other.get_layer("conv").kernel, model.get_layer("conv").kernel)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "keras:NoNet"}, "keras.applications has no network 'NoNet'; it has .*MobileNetV3Small"),
        ({"name": "keras:VGG16", "weights": "none.h5"}, "weights file 'none.h5' not found"),
        ({"name": "keras:VGG16"}, "network 'VGG16' cannot be built: .*32"),
        ({"name": "no_such_module:f"}, "model 'no_such_module:f' cannot be imported: No module"),
        ({"name": "json:loads_all"}, "model 'json:loads_all' cannot be imported: .*has no attribute"),
        ({"name": "operator:contains"}, "operator:contains returns a bool, not a keras.Model"),
    ],
)
def test_models_that_cannot_be_built(settings, message):
    with pytest.raises(UserError, match=message):
        build(shape=(8, 8, 3), outputs=3, **settings)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def net(:", "cannot be imported: .*invalid syntax"),
        ("raise RuntimeError('two\\nlines')", "cannot be imported: two lines"),
        ("net = 3", "cannot be built: TypeError: 'int' object is not callable"),
        ("def net(shape): pass", r"cannot be built: TypeError: .*; it is called as net\(\(4,\), 3\)"),
        ("def net(shape, outputs): return outputs / 0", "cannot be built: ZeroDivisionError"),
    ],
)
def test_mistakes_in_a_module_of_the_users_own(tmp_path, monkeypatch, code, message):
    (tmp_path / "wrong_nets.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong_nets", raising=False)
    with pytest.raises(UserError, match=f"model 'wrong_nets:net' {message}") as caught:
        build("wrong_nets:net", (4,), 3)
    assert "\n" not in str(caught.value) and caught.value.__cause__
    sys.modules.pop("wrong_nets", None)


def test_a_model_of_the_users_own(tmp_path, monkeypatch):
    code = (
        "import keras\n"
        "def net(shape, outputs):\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Dense(outputs)])\n"
    )
    (tmp_path / "my_nets.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    model = build("my_nets:net", (4,), 3, dtype="mixed_bfloat16")
    assert model.layers[-1].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def smoothed(model):
    """A copy without kinks.  In the real network half a million of them leave finite differences no room."""
    smooth = {keras.layers.ReLU: "softplus", keras.layers.Activation: "silu"}

    def copy(layer):
        if type(layer) in smooth:
            return keras.layers.Activation(smooth[type(layer)], name=layer.name, dtype="float64")
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=copy)


@pytest.mark.slow
def test_finite_differences_of_a_network_of_keras_applications(make_tasks, worst_deviation):
    model = smoothed(in_float64(build("keras:MobileNetV3Small", (96, 96, 3), 3)))
    learner = MetaLearner(model, way=3, inner_steps=1, inner_rate=0.01)
    tasks = make_tasks(tasks=1, query_shot=1, shape=(96, 96, 3))
    assert worst_deviation(learner, tasks, directions=1, steps=(1e-6, 1e-7)) < 1e-6
