"""Data: banks of examples, such as pictures that were decoded once into a cache, and few-shot tasks drawn from them.

The names below are loaded when they are first used, so that a config can read `data.sources.splits` and
`data.pixel_defaults` without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_mamlpp.data.array_bank import ArrayBank as ArrayBank
    from tf_mamlpp.data.array_format import ArrayFormat as ArrayFormat
    from tf_mamlpp.data.augmentation import Augmentation as Augmentation
    from tf_mamlpp.data.bank import Bank as Bank
    from tf_mamlpp.data.bank_cache import build_or_load as build_or_load
    from tf_mamlpp.data.banks import load_banks as load_banks
    from tf_mamlpp.data.banks import load_pool as load_pool
    from tf_mamlpp.data.episode_sampling import check_bank as check_bank
    from tf_mamlpp.data.episode_sampling import drawn_rows as drawn_rows
    from tf_mamlpp.data.episode_sampling import episodes as episodes
    from tf_mamlpp.data.episode_sampling import sample_task as sample_task
    from tf_mamlpp.data.image_bank import ImageBank as ImageBank
    from tf_mamlpp.data.images import decode_file as decode_file
    from tf_mamlpp.data.images import normalise as normalise
    from tf_mamlpp.data.images import resize as resize
    from tf_mamlpp.data.picture_batches import picture_batches as picture_batches
    from tf_mamlpp.data.pixel_baselines import nearest_class_mean_accuracy as nearest_class_mean_accuracy
    from tf_mamlpp.data.pixel_baselines import nearest_pixel_accuracy as nearest_pixel_accuracy
    from tf_mamlpp.data.sinusoid import sinusoid_episodes as sinusoid_episodes
    from tf_mamlpp.data.support_copies import SupportCopies as SupportCopies

# The module that each public name lives in.
_HOME = {
    "ArrayBank": "array_bank",
    "ArrayFormat": "array_format",
    "Augmentation": "augmentation",
    "Bank": "bank",
    "ImageBank": "image_bank",
    "SupportCopies": "support_copies",
    "build_or_load": "bank_cache",
    "check_bank": "episode_sampling",
    "decode_file": "images",
    "drawn_rows": "episode_sampling",
    "episodes": "episode_sampling",
    "load_banks": "banks",
    "load_pool": "banks",
    "nearest_class_mean_accuracy": "pixel_baselines",
    "nearest_pixel_accuracy": "pixel_baselines",
    "normalise": "images",
    "picture_batches": "picture_batches",
    "resize": "images",
    "sample_task": "episode_sampling",
    "sinusoid_episodes": "sinusoid",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tf_mamlpp.data' has no attribute '{name}'")
    return getattr(importlib.import_module(f"tf_mamlpp.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
