"""tf_mamlpp: MAML and MAML++ for any Keras model.

`import tf_mamlpp as mp` gives the names below; each is loaded at its first use, so that a command can report a
mistake in its arguments before TensorFlow is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_mamlpp.data.banks import load_banks as load_banks
    from tf_mamlpp.data.episode_sampling import episodes as episodes
    from tf_mamlpp.data.image_bank import ImageBank as ImageBank
    from tf_mamlpp.data.picture_format import PictureFormat as PictureFormat
    from tf_mamlpp.data.sound.sound_format import SoundFormat as SoundFormat
    from tf_mamlpp.deploy.learner_export import export as export
    from tf_mamlpp.deploy.pretrained import pretrained as pretrained
    from tf_mamlpp.errors import UserError as UserError
    from tf_mamlpp.layers.conversion import convert_normalization as convert_normalization
    from tf_mamlpp.layers.exact_norms import ExactGroupNormalization as ExactGroupNormalization
    from tf_mamlpp.layers.exact_norms import ExactLayerNormalization as ExactLayerNormalization
    from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization as PerStepBatchNormalization
    from tf_mamlpp.layers.pooling import ExactMaxPooling1D as ExactMaxPooling1D
    from tf_mamlpp.layers.pooling import ExactMaxPooling2D as ExactMaxPooling2D
    from tf_mamlpp.layers.pooling import ExactMaxPooling3D as ExactMaxPooling3D
    from tf_mamlpp.layers.resizing import ExactResizing as ExactResizing
    from tf_mamlpp.layers.resizing import ExactUpSampling2D as ExactUpSampling2D
    from tf_mamlpp.layers.resizing import resize as resize
    from tf_mamlpp.meta.evaluation import evaluate as evaluate
    from tf_mamlpp.meta.gradient_check import check_meta_gradient as check_meta_gradient
    from tf_mamlpp.meta.meta_learner import MetaLearner as MetaLearner
    from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks as PrototypicalNetworks
    from tf_mamlpp.meta.schedules import CosineAnnealing as CosineAnnealing
    from tf_mamlpp.meta.schedules import Schedules as Schedules
    from tf_mamlpp.meta.settings import presets as presets
    from tf_mamlpp.models.conv1d import conv1d as conv1d
    from tf_mamlpp.models.conv4 import conv4 as conv4
    from tf_mamlpp.models.gru import gru as gru
    from tf_mamlpp.models.mlp import mlp as mlp
    from tf_mamlpp.models.resnet12 import resnet12 as resnet12

# The module that each public name lives in.
_HOME = {
    "CosineAnnealing": "meta.schedules",
    "ExactGroupNormalization": "layers.exact_norms",
    "ExactLayerNormalization": "layers.exact_norms",
    "ExactMaxPooling3D": "layers.pooling",
    "ExactMaxPooling2D": "layers.pooling",
    "ExactMaxPooling1D": "layers.pooling",
    "ExactResizing": "layers.resizing",
    "ExactUpSampling2D": "layers.resizing",
    "ImageBank": "data.image_bank",
    "MetaLearner": "meta.meta_learner",
    "PerStepBatchNormalization": "layers.per_step_batch_norm",
    "PictureFormat": "data.picture_format",
    "PrototypicalNetworks": "meta.prototypical_networks",
    "Schedules": "meta.schedules",
    "SoundFormat": "data.sound.sound_format",
    "UserError": "errors",
    "check_meta_gradient": "meta.gradient_check",
    "conv1d": "models.conv1d",
    "conv4": "models.conv4",
    "convert_normalization": "layers.conversion",
    "episodes": "data.episode_sampling",
    "export": "deploy.learner_export",
    "evaluate": "meta.evaluation",
    "gru": "models.gru",
    "load_banks": "data.banks",
    "mlp": "models.mlp",
    "presets": "meta.settings",
    "pretrained": "deploy.pretrained",
    "resize": "layers.resizing",
    "resnet12": "models.resnet12",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tf_mamlpp' has no attribute '{name}'")
    if name != "UserError":
        from tf_mamlpp.runtime import check_keras_backend

        check_keras_backend()
    return getattr(importlib.import_module(f"tf_mamlpp.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
