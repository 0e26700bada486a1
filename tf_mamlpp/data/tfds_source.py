"""Classification sets of TensorFlow Datasets, divided by class."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tf_mamlpp.data.image_bank import Pictures
from tf_mamlpp.data.splits import SPLITS, divide_classes
from tf_mamlpp.errors import UserError


def tfds_splits(
    name: str,
    path: str | os.PathLike[str] | None,
    split_seed: int,
    split_file: str | os.PathLike[str] | None = None,
) -> dict[str, tuple[str, Callable[[], Pictures]]]:
    """Opens a set of TensorFlow Datasets, downloading and preparing it first if it is not there.

    A set whose train, validation and test splits share no class, as mini-ImageNet's do, keeps them. Else the pictures
    of these splits (those it has) are pooled, and the classes divided. Other splits are left alone: Omniglot's "small1"
    and "small2" repeat its train split, and others hold unlabelled pictures.

    Args:
        name: "tfds:NAME", where NAME is anything `tfds.builder` takes, for example "omniglot" or
            "mnist:3.0.1".
        path: TensorFlow Datasets' data_dir; None: its default.
        split_seed: seed of the division of classes, see `divide_classes`.
        split_file: lists of classes that divide the set, whatever splits it has, see `divide_classes`.

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
    lists = None if split_file is None else divide_classes(names, split_seed, split_file, source=name)
    key = repr([_identity(builder), split_seed, lists])
    read_once: list[dict[str, list[int]]] = []  # the labels: not needed while the pictures are in the cache

    def opener(split: str) -> Callable[[], Pictures]:
        def open_pictures() -> Pictures:
            if not read_once:
                read_once.append(_labels(builder, name))
            labels = read_once[0]
            numbers = (lists or _own_splits(labels) or divide_classes(names, split_seed, source=name))[split]
            return _pictures(builder, labels, numbers, [names[number] for number in numbers])

        return open_pictures

    return {split: (key, opener(split)) for split in SPLITS}


def _prepared(name: str, path: str | os.PathLike[str] | None) -> Any:
    import tensorflow_datasets as tfds  # takes seconds to import, and only this source needs it

    import tf_mamlpp.data.mini_imagenet_builder  # noqa: F401  registers it

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


def _examples(builder: Any, split: str, decoders: Any) -> Iterator[dict[str, Any]]:
    """The examples of a split in the order in which they are stored."""
    yield from builder.as_dataset(split=split, shuffle_files=False, decoders=decoders).as_numpy_iterator()


def _labels(builder: Any, name: str) -> dict[str, list[int]]:
    """The labels of every example by split; -1 where a label is withheld."""
    import tensorflow_datasets as tfds

    decoders = tfds.decode.PartialDecoding({"label": True})
    found = {
        split: [int(example["label"]) for example in _examples(builder, split, decoders)]
        for split in SPLITS
        if split in builder.info.splits
    }
    if not any(label >= 0 for labels in found.values() for label in labels):
        raise UserError(f"{name}: has no labelled pictures")
    return found


def _own_splits(labels: dict[str, list[int]]) -> dict[str, list[int]] | None:
    """The set's own division of classes, if it has all splits and they share no class."""
    classes = {split: {label for label in found if label >= 0} for split, found in labels.items()}
    disjoint = len(set().union(*classes.values())) == sum(map(len, classes.values()))
    complete = len(classes) == len(SPLITS) and all(classes.values())
    return {split: sorted(found) for split, found in classes.items()} if complete and disjoint else None


def _pictures(builder: Any, labels: dict[str, list[int]], numbers: list[int], class_names: list[str]) -> Pictures:
    """Lists the classes of these numbers; their pictures stay encoded until they are read."""
    import tensorflow_datasets as tfds

    known = [label for label in itertools.chain.from_iterable(labels.values()) if label >= 0]
    counts = np.bincount(known, minlength=max(numbers) + 1)[numbers]
    firsts = np.cumsum(counts) - counts

    def read() -> Iterator[tuple[int, str, bytes]]:
        rows = {label: itertools.count(int(first)) for label, first in zip(numbers, firsts, strict=True)}
        for split, found in labels.items():
            if rows.keys().isdisjoint(found):
                continue
            for number, example in enumerate(_examples(builder, split, {"image": tfds.decode.SkipDecoding()})):
                if int(example["label"]) in rows:
                    place = f"{builder.info.full_name} {split} example {number}"
                    yield next(rows[int(example["label"])]), place, example["image"]

    return Pictures(tuple(class_names), tuple(counts.tolist()), read)
