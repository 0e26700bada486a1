"""The published code's numbers, through the public classes, in float64."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta import multi_step_loss, schedules
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.models.conv4 import conv4

FOLDER = Path(os.environ.get("TF_MAMLPP_PARITY", Path(__file__).parents[3] / "shared" / "parity"))
CASES = sorted(FOLDER.glob("*.npz"))
IMAGES = ("support_images", "query_images")
pytestmark = pytest.mark.skipif(not CASES, reason=f"no parity cases in {FOLDER}; name theirs in TF_MAMLPP_PARITY")


class Case:
    """One file of numbers and the learner it describes."""

    def __init__(self, path: Path):
        with np.load(path) as archive:
            self.arrays = dict(archive)
        self.config = c = json.loads(str(self.arrays["config"]))
        model = conv4((c["size"], c["size"], c["ch"]), c["way"], c["filters"], dtype="float64")
        plus = c["pp"]
        self.learner = MetaLearner(
            model,
            way=c["way"],
            inner_steps=c["steps"],
            inner_rate=c["inner_lr_init"],
            multi_step_loss=plus,
            per_step_statistics=plus,
            per_step_weights=plus,
            learned_rates=plus,
            cosine_annealing=True,
            first_order=c["order"] == 1,
            multi_step_loss_epochs=c["msl_epochs"],
            minimum_rate=c["min_meta_lr"],
        )
        for name, variable in self.variables().items():
            variable.assign(self["init/" + name])
        rates = np.stack([self["init/lr/" + self.name(path)] for path in self.learner.adapted_paths])
        self.learner.inner_rates.table.assign(rates[:, :-1])
        self.learner.set_epoch(c["epoch"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @staticmethod
    def name(path: str) -> str:
        """`conv0/kernel` for `conv4/conv0/kernel`, `conv0/gamma` for `conv4/norm0/gamma`."""
        return "/".join(path.split("/")[-2:]).replace("norm", "conv")

    def variables(self) -> dict:
        return {self.name(v.path): v for v in self.learner.model.trainable_variables}

    def tasks(self, prefix: str = "") -> dict:
        images = {n: self[prefix + n] for n in IMAGES}
        labels = {n: self[n].astype("int32") for n in ("support_labels", "query_labels")}
        return {k: tf.constant(v) for k, v in {**images, **labels}.items()}


@pytest.fixture(params=CASES, ids=lambda path: path.stem)
def case(request) -> Case:
    return Case(request.param)


@pytest.mark.slow_cases("mamlpp_1st", "mamlpp_2nd", "mamlpp_2nd_epoch4", "mamlpp_rgb")
def test_loss_and_meta_gradient(case):
    gradients, _, numbers = tf.function(case.learner.meta_gradient)(case.tasks())
    np.testing.assert_allclose(numbers["meta_loss"], case["meta_loss"], rtol=1e-9)
    np.testing.assert_allclose(numbers["accuracy"], case["accuracy"], rtol=1e-6)
    by_variable = {id(v): g for v, g in zip(case.learner.trainable_variables, gradients, strict=True)}
    for name, variable in case.variables().items():
        expected = case["meta_grad/" + name]
        behind_norm = name.startswith("conv") and name.endswith("bias")
        atol = 1e-9 if behind_norm else 1e-7 * np.abs(expected).max()
        np.testing.assert_allclose(by_variable[id(variable)], expected, rtol=0, atol=atol, err_msg=name)
    if case.config["pp"]:
        rates = by_variable[id(case.learner.inner_rates.table)]
        for row, path in zip(rates, case.learner.adapted_paths, strict=True):
            expected = case["meta_grad/lr/" + case.name(path)][:-1]
            atol = max(1e-7 * np.abs(expected).max(), 1e-9)
            np.testing.assert_allclose(row, expected, rtol=0, atol=atol, err_msg="rate of " + path)


def test_final_query_logits(case):
    curves = case.learner.curves(case.tasks())
    np.testing.assert_allclose(curves[:, -1], case["query_logits_final"], rtol=0, atol=1e-9)


def test_loss_weights(case):
    c = case.config
    weights = multi_step_loss.loss_weights(c["epoch"], c["steps"], c["msl_epochs"])
    np.testing.assert_allclose(weights, case["multi_step_loss_weights"], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_trajectory_of_five_updates(case):
    c, learner = case.config, case.learner
    # PyTorch adds epsilon to the bias-corrected root, Keras to the uncorrected one, which is 17 times smaller at
    # the third update.
    epsilon = c["adam"]["epsilon"] * (1 - c["adam"]["beta_2"] ** 3) ** 0.5
    learner.compile(keras.optimizers.Adam(c["meta_lr"], epsilon=epsilon))
    learner.optimizer.build(learner.trainable_variables)
    update = tf.function(learner.train_step)
    for j, epoch in enumerate(case["traj/epochs"]):
        rate = schedules.cosine_rate(int(epoch), c["total_epochs"], c["meta_lr"], c["min_meta_lr"])
        np.testing.assert_allclose(rate, case["traj/learning_rate"][j], rtol=0, atol=1e-12)
        learner.set_epoch(int(epoch))
        learner.optimizer.learning_rate = rate
        learner.reset_metrics()
        numbers = update(case.tasks(f"traj/{j}/"))
        np.testing.assert_allclose(numbers["meta_loss"], case["traj/meta_loss"][j], rtol=1e-4)
