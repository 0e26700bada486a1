"""Data: pictures decoded once into a cache, and few-shot tasks drawn from them."""

from tf_mamlpp.data.baseline import nearest_pixel_accuracy
from tf_mamlpp.data.episodes import check_bank, episodes, sample_task
from tf_mamlpp.data.image_bank import ImageBank, build_or_load
from tf_mamlpp.data.images import decode_file, normalise, resize
from tf_mamlpp.data.sinusoid import sinusoid_episodes
from tf_mamlpp.data.sources import load_banks

__all__ = [
    "ImageBank",
    "build_or_load",
    "check_bank",
    "decode_file",
    "episodes",
    "load_banks",
    "nearest_pixel_accuracy",
    "normalise",
    "resize",
    "sample_task",
    "sinusoid_episodes",
]
