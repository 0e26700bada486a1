"""The configuration of a run: typed, frozen, checked.  Imports no TensorFlow, so mistakes show at once."""

from tf_mamlpp.config.catalogue import names
from tf_mamlpp.config.overrides import (
    differences,
    from_dict,
    load,
    override,
    parse,
    parse_argument,
    take_minutes,
    to_dict,
)
from tf_mamlpp.config.schema import MACHINE_KEYS, Config, Data, Evaluation, Learner, Model, Pretrain, Training
from tf_mamlpp.data.augmentation import Augmentation

__all__ = [
    "MACHINE_KEYS",
    "Augmentation",
    "Config",
    "Data",
    "Evaluation",
    "Learner",
    "Model",
    "Pretrain",
    "Training",
    "differences",
    "from_dict",
    "load",
    "names",
    "override",
    "parse",
    "parse_argument",
    "take_minutes",
    "to_dict",
]
