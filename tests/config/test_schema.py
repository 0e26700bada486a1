"""The sections of a config: what goes together, and what is refused."""

import dataclasses
import math

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config, Data, Learner, Training
from tf_mamlpp.errors import UserError


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("learner.first_order=1 learner.derivative_order_annealing=1", "derivative_order_annealing contradict"),
        (
            "learner.head=shared learner.elementwise_rates=1",
            "elementwise_rates and head=shared contradict each other",
        ),
        (
            "learner.head=shared learner.adapted=body",
            "learner.head=shared needs .*: adapted=body does not",
        ),
        ("learner.head=prototypes learner.label_permutations=5", "learner.label_permutations has no use with"),
        ("learner.head=shared data.name=sinusoid", "learner.head=shared needs classes: give `way`"),
        ("learner.prototypes=1 data.name=sinusoid", "learner.prototypes needs classes: give `way`"),
        ("learner.label_permutations=5 data.name=sinusoid", "learner.label_permutations needs classes"),
        ("learner.adapted=", "learner.adapted is empty"),
        ("model.name=resnet12 model.widths=", "model.widths is empty"),
        ("model.widths=4,8", "model.widths is for model.name=resnet12, not for 'conv4'"),
        ("model.name=mlp model.blocks=2", "model.blocks is for model.name=conv4 or conv1d, not for 'mlp'"),
        ("model.name=resnet12 model.strided=1", "model.strided is for model.name=conv4, not for 'resnet12'"),
        *(
            (f"data.name=audio_folder data.{setting}", "must rise in this order, from one sample on, which is 1/")
            for setting in ("hop=0.04", "seconds=0.02", "sample_rate=40", "window=1.5")
        ),
        *(
            (f"data.name={name} data.split_file=a.json", f"data.split_file has no use with data.name={name}")
            for name in ("glyphs", "mini_imagenet", "sinusoid")
        ),
        *(
            (f"data.name={name} data.split_fractions=0.5,0.3,0.2", f"split_fractions has no use with data.name={name}")
            for name in ("glyphs", "omniglot", "mini_imagenet", "sinusoid")
        ),
        (
            "data.name=image_folder data.split_fractions=0.5,0.3,0.2 data.split_file=a.json",
            "data.split_fractions and data.split_file contradict: choose one",
        ),
    ],
)
def test_settings_that_do_not_go_together(flags, named):
    with pytest.raises(UserError, match=named):
        configs.override(Config(), [f"--config.{flag}" for flag in flags.split()])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"learned_rates": True}, "^learner.prototypes has no inner loop: learned_rates has no use"),
        ({"adapted": "head"}, "adapted has no use"),
        ({"label_permutations": 5}, "label_permutations has no use"),
        ({"rematerialise": True}, "rematerialise has no use"),
    ],
)
def test_prototypes_have_no_inner_loop_to_set(settings, named):
    with pytest.raises(UserError, match=named):
        configs.from_dict({"learner": {"prototypes": True, **settings}})
    with pytest.raises(UserError, match=named.removeprefix("^learner.")):
        Learner(prototypes=True, **settings)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 2


def test_not_a_number():
    with pytest.raises(UserError, match="^training.learning_rate is nan"):
        Config(training=Training(learning_rate=math.nan))


@pytest.mark.parametrize("name", ["glyphs", "sinusoid"])
def test_leaving_out_has_no_use_where_nothing_is_read(name):
    with pytest.raises(UserError, match=f"data.skip_damaged has no use with data.name={name}"):
        Data(name=name, skip_damaged=True)
