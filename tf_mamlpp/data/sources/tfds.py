"""Classification sets of TensorFlow Datasets, divided by class.  Imports TensorFlow Datasets only when used."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tf_mamlpp.data.picture_files import file_state
from tf_mamlpp.data.sources.listing import Pictures, Splits
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLIT_FOLDERS, SPLITS, SplitFile, divide_classes
from tf_mamlpp.data.sources.tfds_features import class_names, picture_and_label
from tf_mamlpp.errors import UserError, reason
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

    Pictures and labels are the features "image" and "label", or else the set's `supervised_keys`. A picture is an Image
    or a Tensor of uint8, a label a ClassLabel, a Text or an integer; -1 and "" are no labels.

    Args:
        name: "tfds:NAME", where NAME is anything `tfds.builder` takes, for example "omniglot" or
            "mnist:3.0.1"; or "tfds:NAME[:10%]", which reads that part of every split. TensorFlow Datasets mixes the
            examples of a split when it prepares them, so a part has some of every class.
        path: TensorFlow Datasets' data_dir; None: its default.
        split_seed: seed of the division of classes, see `divide_classes`.
        split_file: lists of classes that divide the set, whatever splits it has, see `divide_classes`.
        split_fractions: shares of the pooled classes, see `divide_classes`.

    Returns:
        For each split, a key that changes with the data, and a function that lists the pictures.

    Warns:
        UserWarning: the set has splits that are not read, or texts or integers that are no labels.

    Raises:
        UserError: unknown name or part, no pictures or labels in the set, or it can neither be found nor downloaded.

    Example:
        >>> tfds_splits("tfds:no_such_set", tmp_path, split_seed=0)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: tfds:no_such_set: neither prepared in ... nor to be downloaded ...
    """
    listed = None if split_file is None else SplitFile.read(split_file)  # before a download
    set_name, part = _set_and_part(name)
    builder = _prepared(set_name, path)
    image, label = picture_and_label(builder, name)
    _check_splits(builder, name, part)
    names = class_names(builder.info.features[label])
    lists: Any = None
    if listed is not None:  # checked at once if the classes are known, else when the labels have been read
        lists = divide_classes(names, split_seed, split_file, source=name) if names else _contents(listed)
    key = repr([_identity(builder), image, label, split_seed, list(split_fractions), lists, *filter(None, [part])])
    # The labels of all splits, read when the first split is opened: never, if the cache has the pictures.
    read: list[_Labels] = []

    def opener(split: str) -> Callable[[], Pictures]:
        def open_pictures() -> Pictures:
            if not read:
                read.append(_read_labels(builder, name, part, label, names))
            labels = read[0]
            given = None if split_file is not None else _own_splits(labels.numbers)
            divided = given or divide_classes(labels.names, split_seed, split_file, split_fractions, source=name)
            present = set(itertools.chain.from_iterable(labels.numbers.values()))
            classes = {number: labels.names[number] for number in divided[split] if number in present}
            return _pictures(builder, image, label, labels, classes, by_fractions=given is None and split_file is None)

        return open_pictures

    return {split: (key, opener(split)) for split in SPLITS}


@dataclasses.dataclass(frozen=True)
class _Labels:
    """The labels of a set.

    Attributes:
        names: of the classes.
        part: of every split that is read, such as "[:10%]"; "" for all.
        number: of the class of each label; -1 where a label is withheld.
        numbers: of the class of every example, by the set's own splits.
    """

    names: list[str]
    part: str
    number: Callable[[Any], int]
    numbers: dict[str, list[int]]


def _contents(listed: SplitFile) -> dict[str, Any]:
    """What a split file says, for a key that is the same as before files could have other names of classes."""
    return {key: value for key, value in dataclasses.asdict(listed).items() if value or key != "others"}


def _loaded() -> Any:
    """TensorFlow Datasets, which takes seconds to import, and only this source needs it."""
    import tensorflow_datasets as tfds

    if not hasattr(tfds, "core"):  # it swallows the error of what it imports
        raise UserError(
            "TensorFlow Datasets cannot be loaded: tensorflow-metadata from 1.18 on needs protobuf 6, where older "
            "TensorFlow holds it at 5: pip install 'tensorflow-metadata<1.18'"
        )
    return tfds


def _set_and_part(name: str) -> tuple[str, str]:
    """The parts of "tfds:NAME[PART]": the first without the brackets, and these; "" where there are none."""
    tfds = _loaded()
    set_name, bracket, rest = name.partition("[")
    part = bracket + rest
    try:
        if part:
            tfds.core.ReadInstruction.from_spec(f"train{part}")
        good = "]" not in part[:-1]  # "[:10%]+test" is read too
    except Exception:
        good = False
    if not good:
        raise UserError(f"{name}: '{part}' is no part of a split, such as [:10%] or [:5000]")
    return set_name, part


def _prepared(name: str, path: str | os.PathLike[str] | None) -> Any:
    """The builder of a set, after it has been downloaded and prepared."""
    tfds = _loaded()
    import tf_mamlpp.data.sources.tfds_mini_imagenet  # noqa: F401  registers it

    data_dir = None if path is None else str(expanded(path))
    try:
        builder = tfds.builder(name.removeprefix("tfds:"), data_dir=data_dir)
        builder.download_and_prepare()
    except Exception as error:  # whatever the set's own code raises: unknown name, no network, ...
        where = data_dir or "the default data_dir"
        raise UserError(f"{name}: neither prepared in {where} nor to be downloaded ({reason(error)})") from error
    return builder


def _check_splits(builder: Any, name: str, part: str) -> None:
    """Raises a UserError if a set has no split, or no such part, that is read here; warns of splits that are not."""
    unread = [split for split in builder.info.splits if split not in _SPLIT_OF]
    if len(unread) == len(builder.info.splits):
        known = f"{', '.join(list(_SPLIT_OF)[:-1])} or {list(_SPLIT_OF)[-1]}"
        raise UserError(f"{name}: has no split called {known}; it has {', '.join(unread) or 'none at all'}")
    read = [split for split in builder.info.splits if split in _SPLIT_OF]
    try:
        empty = not any(builder.info.splits[f"{split}{part}"].num_examples for split in read)
    except Exception as error:  # TFDS's own, of a number that is out of range
        raise UserError(f"{name}: {reason(error)}") from error
    if part and empty:
        raise UserError(f"{name}: has no pictures in that part of {', '.join(read)}: give a larger one")
    if unread:
        warnings.warn(f"{name}: of its splits, {', '.join(read)} are read, {', '.join(unread)} are not", stacklevel=1)


def _identity(builder: Any) -> str:
    """A hash that changes with the set's version, place, sizes and files."""
    splits = sorted((split, info.num_examples, info.num_bytes) for split, info in builder.info.splits.items())
    files = [(str(f), file_state(os.stat(f))) for s in builder.info.splits.values() for f in s.filepaths]
    return hashlib.sha256(repr([builder.info.full_name, str(builder.data_dir), splits, files]).encode()).hexdigest()


def _examples(builder: Any, split: str, decoders: Any) -> Iterator[dict[str, Any]]:
    """The examples of a split in the order in which they are stored."""
    yield from builder.as_dataset(split=split, shuffle_files=False, decoders=decoders).as_numpy_iterator()


def _read_labels(builder: Any, name: str, part: str, label: str, names: list[str]) -> _Labels:
    """Reads the labels of every example.

    Args:
        part: of every split, such as "[:10%]"; "" for all.
        names: the classes, numbered by the labels; empty where the labels are texts or any integers.
    """
    import tensorflow_datasets as tfds

    decoders = tfds.decode.PartialDecoding({label: True})
    found = {
        split: [_plain(example[label]) for example in _examples(builder, f"{split}{part}", decoders)]
        for split in sorted(set(builder.info.splits) & set(_SPLIT_OF), key=list(_SPLIT_OF).index)
    }
    values = sorted(set(itertools.chain.from_iterable(found.values())) - {-1, ""})
    if not values:
        raise UserError(f"{name}: has no labelled pictures in its splits {', '.join(found)}")
    number: dict[Any, int] = {value: n for n, value in enumerate(range(len(names)) if names else values)}
    withheld = sum(value in (-1, "") for labels in found.values() for value in labels)
    if withheld and not names:
        warnings.warn(
            f"{name}: {withheld} pictures whose label is -1 or empty are left out as unlabelled", stacklevel=1
        )
    return _Labels(
        names or [str(value) for value in values],
        part,
        lambda value: number.get(_plain(value), -1),
        {split: [number.get(value, -1) for value in labels] for split, labels in found.items()},
    )


def _plain(label: Any) -> int | str:
    """A label as it is read, as an integer or a text."""
    return label.decode(errors="backslashreplace") if isinstance(label, bytes) else int(label)


def _own_splits(labels: dict[str, list[int]]) -> dict[str, list[int]] | None:
    """The set's own division of classes, if it has all splits and they share no class."""
    classes: dict[str, set[int]] = {}
    for split, found in labels.items():
        classes.setdefault(_SPLIT_OF[split], set()).update(label for label in found if label >= 0)
    disjoint = len(set().union(*classes.values())) == sum(map(len, classes.values()))
    complete = len(classes) == len(SPLITS) and all(classes.values())
    return {split: sorted(found) for split, found in classes.items()} if complete and disjoint else None


def _pictures(
    builder: Any, image: str, label: str, labels: _Labels, classes: dict[int, str], by_fractions: bool
) -> Pictures:
    """Lists the classes, number to name, that have pictures; these stay encoded until they are read."""
    import tensorflow_datasets as tfds

    known = [number for number in itertools.chain.from_iterable(labels.numbers.values()) if number >= 0]
    encoded = isinstance(builder.info.features[image], tfds.features.Image)
    decoders = {image: tfds.decode.SkipDecoding()} if encoded else None
    counts = np.bincount(known)[np.array(list(classes), int)]
    firsts = np.cumsum(counts) - counts

    def read() -> Iterator[tuple[int, str, bytes | np.ndarray]]:
        rows = {number: itertools.count(int(first)) for number, first in zip(classes, firsts, strict=True)}
        for split, found in labels.numbers.items():
            if rows.keys().isdisjoint(found):
                continue
            for index, example in enumerate(_examples(builder, f"{split}{labels.part}", decoders)):
                number = labels.number(example[label])
                if number in rows:
                    place = f"{builder.info.full_name} {split} example {index}"
                    yield next(rows[number]), place, example[image]

    return Pictures(tuple(classes.values()), tuple(counts.tolist()), read, by_fractions)
