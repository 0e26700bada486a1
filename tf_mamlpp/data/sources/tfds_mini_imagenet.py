"""Mini-ImageNet for TensorFlow Datasets; importing this module makes `tfds.load("mini_imagenet")` known.

Its pictures may not be passed on, so they are put by hand into the manual folder (TFDS's
`data_dir/downloads/manual`, or a `manual_dir` of your own):

    import tensorflow_datasets as tfds
    import tf_mamlpp.data.sources.tfds_mini_imagenet

    config = tfds.download.DownloadConfig(manual_dir="DIR")
    tfds.load("mini_imagenet", split="train", download_and_prepare_kwargs={"download_config": config})
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.data.sources.mini_imagenet import mini_imagenet_splits
from tf_mamlpp.errors import UserError


class MiniImagenet(tfds.core.GeneratorBasedBuilder):
    """100 classes of ImageNet at 84x84; splits train, validation and test share no class.

    Example:
        >>> builder = MiniImagenet(data_dir=tmp_path)
        >>> builder.name, builder.info.features["image"].shape
        ('mini_imagenet', (84, 84, 3))
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the archives train*.tar.gz, val*.tar.gz and test*.tar.gz (one a split, or several), or the folders "
        "train/, val/ and test/ unpacked from them, into the manual folder itself or into mini_imagenet/ inside it."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(84, 84, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(),  # named when prepared, after the folders
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Mini-ImageNet for few-shot learning, classes divided as by Ravi & Larochelle (ICLR 2017).",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://openreview.net/forum?id=rJY0-Kcll",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        inside = folder / "mini_imagenet"
        splits = mini_imagenet_splits(inside if inside.is_dir() else folder)
        pictures = {split: open_pictures() for split, (_, open_pictures) in splits.items()}
        self.info.features["label"].names = sorted(name for p in pictures.values() for name in p.class_names)
        return {split: self._generate_examples(p) for split, p in pictures.items()}

    def _generate_examples(self, pictures: Pictures) -> Iterator[tuple[int, dict[str, Any]]]:
        classes = np.repeat(pictures.class_names, pictures.counts)
        for row, _, content in pictures.read():
            if isinstance(content, UserError):
                raise content
            yield row, {"image": content, "label": str(classes[row])}
