"""Classification sets of TensorFlow Datasets, divided by class.  Imports TensorFlow Datasets only when used."""

from __future__ import annotations

import hashlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tf_mamlpp.data.picture_files import file_state
from tf_mamlpp.data.sources.listing import Pictures, Splits
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLIT_FOLDERS, SPLITS, divide_classes
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded

_SPLIT_OF = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
"""Which split of ours each split of a set is, by its name."""


def tfds_splits(
    name: str,
    path: str | os.PathLike[str] | None,
    split_seed: int,
    split_file: str | os.PathLike[str] | None = None,
    split_fractions: Sequence[float] = FRACTIONS,
) -> Splits:
    """Opens a set of TensorFlow Datasets, downloading and preparing it first if it is not there.

    Only the splits train, validation (also: val, valid) and test of a set are read. If it has all three and they share
    no class, as in mini-ImageNet, they are kept. Else their pictures are pooled and the classes divided; a class
    without pictures is left out. Splits of other names are not read: Omniglot's "small1" and "small2" repeat its train
    split, and those of other sets hold unlabelled pictures.

    Pictures and labels are the features "image" and "label", or else the set's `supervised_keys`.

    Args:
        name: "tfds:NAME", where NAME is anything `tfds.builder` takes, for example "omniglot" or
            "mnist:3.0.1".
        path: TensorFlow Datasets' data_dir; None: its default.
        split_seed: seed of the division of classes, see `divide_classes`.
        split_file: lists of classes that divide the set, whatever splits it has, see `divide_classes`.
        split_fractions: shares of the pooled classes, see `divide_classes`.

    Returns:
        For each split, a key that changes with the data, and a function that lists the pictures.

    Warns:
        UserWarning: the set has splits that are not read.

    Raises:
        UserError: unknown name, no pictures or labels in the set, or it can neither be found nor downloaded.

    Example:
        >>> tfds_splits("tfds:no_such_set", tmp_path, split_seed=0)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: tfds:no_such_set: neither prepared in ... nor to be downloaded ...
    """
    builder = _prepared(name, path)
    image, label = _features(builder, name)
    _check_splits(builder, name)
    to_name = builder.info.features[label].int2str
    names = [to_name(number) for number in range(builder.info.features[label].num_classes)]
    lists = None if split_file is None else divide_classes(names, split_seed, split_file, source=name)
    key = repr([_identity(builder), image, label, split_seed, list(split_fractions), lists])
    # The labels of all splits, read when the first split is opened: never, if the cache has the pictures.
    labels: dict[str, list[int]] = {}

    def opener(split: str) -> Callable[[], Pictures]:
        def open_pictures() -> Pictures:
            if not labels:
                labels.update(_labels(builder, name, label))
            given = lists or _own_splits(labels)
            divided = given or divide_classes(names, split_seed, fractions=split_fractions, source=name)
            present = set(itertools.chain.from_iterable(labels.values()))
            classes = {number: names[number] for number in divided[split] if number in present}
            return _pictures(builder, image, label, labels, classes, by_fractions=given is None)

        return open_pictures

    return {split: (key, opener(split)) for split in SPLITS}


def _prepared(name: str, path: str | os.PathLike[str] | None) -> Any:
    """The builder of a set, after it has been downloaded and prepared."""
    import tensorflow_datasets as tfds  # takes seconds to import, and only this source needs it

    import tf_mamlpp.data.sources.tfds_mini_imagenet  # noqa: F401  registers it

    data_dir = None if path is None else str(expanded(path))
    try:
        builder = tfds.builder(name.removeprefix("tfds:"), data_dir=data_dir)
        builder.download_and_prepare()
    except Exception as error:  # whatever the set's own code raises: unknown name, no network, ...
        reason = str(error).strip().partition("\n")[0]
        where = data_dir or "the default data_dir"
        raise UserError(f"{name}: neither prepared in {where} nor to be downloaded ({reason})") from error
    return builder


def _features(builder: Any, name: str) -> tuple[str, str]:
    """The names of the features that hold a set's pictures and their labels."""
    import tensorflow_datasets as tfds

    features, candidates = builder.info.features, [("image", "label")]
    supervised = builder.info.supervised_keys
    if isinstance(supervised, tuple) and len(supervised) == 2 and all(isinstance(key, str) for key in supervised):
        candidates.append(supervised)
    for image, label in candidates:
        if image in features and isinstance(features[image], tfds.features.Image) and label in features:
            if isinstance(features[label], tfds.features.ClassLabel) and features[label].num_classes:
                return image, label
    raise UserError(
        f"{name}: is no classification set: it needs the features 'image' and 'label', or supervised_keys that name "
        f"a picture and a class; it has {', '.join(map(repr, features))}"
    )


def _check_splits(builder: Any, name: str) -> None:
    """Raises a UserError if a set has no split that is read here; warns of those that are not."""
    unread = [split for split in builder.info.splits if split not in _SPLIT_OF]
    if len(unread) == len(builder.info.splits):
        known = f"{', '.join(list(_SPLIT_OF)[:-1])} or {list(_SPLIT_OF)[-1]}"
        raise UserError(f"{name}: has no split called {known}; it has {', '.join(unread) or 'none at all'}")
    if unread:
        read = [split for split in builder.info.splits if split in _SPLIT_OF]
        warnings.warn(f"{name}: of its splits, {', '.join(read)} are read, {', '.join(unread)} are not", stacklevel=1)


def _identity(builder: Any) -> str:
    """A hash that changes with the set's version, place, sizes and files."""
    splits = sorted((split, info.num_examples, info.num_bytes) for split, info in builder.info.splits.items())
    files = [(str(f), file_state(os.stat(f))) for s in builder.info.splits.values() for f in s.filepaths]
    return hashlib.sha256(repr([builder.info.full_name, str(builder.data_dir), splits, files]).encode()).hexdigest()


def _examples(builder: Any, split: str, decoders: Any) -> Iterator[dict[str, Any]]:
    """The examples of a split in the order in which they are stored."""
    yield from builder.as_dataset(split=split, shuffle_files=False, decoders=decoders).as_numpy_iterator()


def _labels(builder: Any, name: str, label: str) -> dict[str, list[int]]:
    """The labels of every example by the set's own splits; -1 where a label is withheld."""
    import tensorflow_datasets as tfds

    decoders = tfds.decode.PartialDecoding({label: True})
    found = {
        split: [int(example[label]) for example in _examples(builder, split, decoders)]
        for split in sorted(set(builder.info.splits) & set(_SPLIT_OF), key=list(_SPLIT_OF).index)
    }
    if not any(number >= 0 for labels in found.values() for number in labels):
        raise UserError(f"{name}: has no labelled pictures in its splits {', '.join(found)}")
    return found


def _own_splits(labels: dict[str, list[int]]) -> dict[str, list[int]] | None:
    """The set's own division of classes, if it has all splits and they share no class."""
    classes: dict[str, set[int]] = {}
    for split, found in labels.items():
        classes.setdefault(_SPLIT_OF[split], set()).update(label for label in found if label >= 0)
    disjoint = len(set().union(*classes.values())) == sum(map(len, classes.values()))
    complete = len(classes) == len(SPLITS) and all(classes.values())
    return {split: sorted(found) for split, found in classes.items()} if complete and disjoint else None


def _pictures(
    builder: Any, image: str, label: str, labels: dict[str, list[int]], classes: dict[int, str], by_fractions: bool
) -> Pictures:
    """Lists the classes, number to name, that have pictures; these stay encoded until they are read."""
    import tensorflow_datasets as tfds

    known = [number for number in itertools.chain.from_iterable(labels.values()) if number >= 0]
    counts = np.bincount(known)[np.array(list(classes), int)]
    firsts = np.cumsum(counts) - counts

    def read() -> Iterator[tuple[int, str, bytes]]:
        rows = {number: itertools.count(int(first)) for number, first in zip(classes, firsts, strict=True)}
        for split, found in labels.items():
            if rows.keys().isdisjoint(found):
                continue
            for index, example in enumerate(_examples(builder, split, {image: tfds.decode.SkipDecoding()})):
                if int(example[label]) in rows:
                    place = f"{builder.info.full_name} {split} example {index}"
                    yield next(rows[int(example[label])]), place, example[image]

    return Pictures(tuple(classes.values()), tuple(counts.tolist()), read, by_fractions)
