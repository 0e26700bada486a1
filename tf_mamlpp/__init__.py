"""tf_mamlpp: MAML and MAML++ for any Keras model.

`import tf_mamlpp as mp` gives the names below; each is loaded at its first use, so that a command can report a
mistake in its arguments before TensorFlow is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_mamlpp.data import ImageBank as ImageBank
    from tf_mamlpp.data import load_banks as load_banks
    from tf_mamlpp.data.episodes import episodes as episodes
    from tf_mamlpp.errors import UserError as UserError
    from tf_mamlpp.evaluation import evaluate as evaluate
    from tf_mamlpp.gradient_check import check_meta_gradient as check_meta_gradient
    from tf_mamlpp.layers import ExactGroupNormalization as ExactGroupNormalization
    from tf_mamlpp.layers import ExactLayerNormalization as ExactLayerNormalization
    from tf_mamlpp.layers import PerStepBatchNormalization as PerStepBatchNormalization
    from tf_mamlpp.layers import convert_normalization as convert_normalization
    from tf_mamlpp.meta_learner import MetaLearner as MetaLearner
    from tf_mamlpp.methods import presets as presets
    from tf_mamlpp.models import conv4 as conv4
    from tf_mamlpp.models import mlp as mlp
    from tf_mamlpp.models import resnet12 as resnet12
    from tf_mamlpp.prototypes import PrototypicalNetworks as PrototypicalNetworks

_HOME = {
    "ExactGroupNormalization": "layers",
    "ExactLayerNormalization": "layers",
    "ImageBank": "data",
    "MetaLearner": "meta_learner",
    "PerStepBatchNormalization": "layers",
    "PrototypicalNetworks": "prototypes",
    "UserError": "errors",
    "check_meta_gradient": "gradient_check",
    "conv4": "models",
    "convert_normalization": "layers",
    "episodes": "data",
    "evaluate": "evaluation",
    "load_banks": "data",
    "mlp": "models",
    "presets": "methods",
    "resnet12": "models",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tf_mamlpp' has no attribute '{name}'")
    return getattr(importlib.import_module(f"tf_mamlpp.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
