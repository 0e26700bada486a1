"""Classification sets of TensorFlow Datasets, pooled and divided again by class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tf_mamlpp.data.image_bank import Pictures
from tf_mamlpp.data.splits import divide_classes
from tf_mamlpp.errors import UserError

# Only these are pooled: Omniglot's "small1" and "small2" repeat its train split, and others hold unlabelled
# pictures.
_POOLED = ("train", "validation", "test")


def tfds_splits(
    name: str, path: str | os.PathLike[str] | None, split_seed: int
) -> dict[str, tuple[str, Callable[[], Pictures]]]:
    """Opens a set of TensorFlow Datasets, downloading and preparing it first if it is not there.

    Args:
        name: "tfds:NAME", where NAME is anything `tfds.builder` takes, for example "omniglot" or
            "mnist:3.0.1".
        path: TensorFlow Datasets' data_dir; None: its default.
        split_seed: seed of the division of classes, see `divide_classes`.

    Returns:
        For each split, a key that changes with the data, and what lists the pictures.

    Raises:
        UserError: unknown name, no picture or label in it, or it can neither be found nor downloaded.
    """
    builder = _prepared(name, path)
    features = builder.info.features
    label: Any = features["label"] if "label" in features else None
    if "image" not in features or not hasattr(label, "int2str"):
        raise UserError(f"{name}: is no classification set: it needs the features 'image' and 'label'")
    names = [label.int2str(number) for number in range(label.num_classes)]
    key = _identity(builder)
    divided = divide_classes(names, split_seed, source=name)
    return {
        split: (
            f"{key} {split_seed}",
            partial(_list_pictures, builder, name, numbers, [names[n] for n in numbers]),
        )
        for split, numbers in divided.items()
    }


def _prepared(name: str, path: str | os.PathLike[str] | None) -> Any:
    import tensorflow_datasets as tfds  # takes seconds to import, and only this source needs it

    data_dir = None if path is None else os.path.expanduser(path)
    try:
        builder = tfds.builder(name.removeprefix("tfds:"), data_dir=data_dir)
        builder.download_and_prepare()
    except Exception as error:  # whatever the set's own code raises: unknown name, no network, ...
        reason = str(error).strip().partition("\n")[0]
        where = data_dir or "the default data_dir"
        raise UserError(f"{name}: neither prepared in {where} nor to be downloaded ({reason})") from error
    return builder


def _identity(builder: Any) -> str:
    splits = sorted((split, info.num_examples, info.num_bytes) for split, info in builder.info.splits.items())
    files = [(str(f), os.stat(f).st_mtime_ns) for s in builder.info.splits.values() for f in s.filepaths]
    return hashlib.sha256(repr([builder.info.full_name, str(builder.data_dir), splits, files]).encode()).hexdigest()


def _examples(builder: Any, decoders: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """All examples of the pooled splits with a name for each, in the order in which they are stored."""
    for split in _POOLED:
        if split in builder.info.splits:
            examples = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders).as_numpy_iterator()
            for number, example in enumerate(examples):
                yield f"{builder.info.full_name} {split} example {number}", example


def _list_pictures(builder: Any, name: str, numbers: list[int], class_names: list[str]) -> Pictures:
    """Counts the wanted classes; their pictures stay encoded until they are read."""
    import tensorflow_datasets as tfds

    labels_only = tfds.decode.PartialDecoding({"label": True})
    labels = [int(example["label"]) for _, example in _examples(builder, labels_only)]
    known = [label for label in labels if label >= 0]  # -1: the label is withheld
    counts = np.bincount(known, minlength=max(numbers) + 1)
    place = {label: position for position, label in enumerate(numbers)}

    def read() -> Iterator[tuple[int, str, bytes]]:
        for picture, example in _examples(builder, {"image": tfds.decode.SkipDecoding()}):
            if int(example["label"]) in place:
                yield place[int(example["label"])], picture, example["image"]

    if not counts.any():
        raise UserError(f"{name}: has no labelled pictures")
    return Pictures(tuple(class_names), tuple(int(counts[number]) for number in numbers), read)
