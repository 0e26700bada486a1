"""The configuration of a run: typed, frozen, checked.  Imports no TensorFlow, so mistakes show at once."""

from tf_mamlpp.config.overrides import differences, from_dict, load, override, parse, parse_argument, to_dict
from tf_mamlpp.config.schema import MACHINE_KEYS, Config, Data, Evaluation, Learner, Model, Training

__all__ = [
    "MACHINE_KEYS",
    "Config",
    "Data",
    "Evaluation",
    "Learner",
    "Model",
    "Training",
    "differences",
    "from_dict",
    "load",
    "override",
    "parse",
    "parse_argument",
    "to_dict",
]
