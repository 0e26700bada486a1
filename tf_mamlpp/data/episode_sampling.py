"""Few-shot tasks: task i of a split is a pure function of (seed, split, i)."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.augmentation import Augmentation, augment, rotate
from tf_mamlpp.data.bank import Bank
from tf_mamlpp.data.banks import load_banks
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.data.pixel_defaults import is_omniglot
from tf_mamlpp.data.sources.splits import FRACTIONS
from tf_mamlpp.data.support_copies import SupportCopies, with_copies
from tf_mamlpp.data.task_stream import Task, meta_batches, task_bits
from tf_mamlpp.errors import UserError


def sample_task(
    bank: Bank,
    *,
    way: int,
    shot: int,
    query_shot: int,
    seed: int,
    split: str,
    index: int,
    rotations: bool = False,
    augmentation: Augmentation | None = None,
    unknown: int = 0,
) -> Task:
    """Draws one task; the same arguments give the same task on every run, host and process.

    Args:
        bank: pictures to draw from; see `check_bank` for what it must hold.
        way: classes a task; no class twice, and none with fewer than shot + query_shot pictures.
        shot: support pictures a class.
        query_shot: query pictures a class, none of them among the support pictures.
        seed: non-negative number.
        split: name of the split; tasks of two splits are unrelated even with one seed.
        index: number of the task.
        rotations: turn each class by its own random multiple of 90 degrees (support and query alike).
        augmentation: drawn for each picture; None for pictures as they are.
        unknown: pictures of other classes to draw too, as many of each of these classes as of the others, or one more;
            neither turned nor augmented. The rest of the task does not depend on it.

    Returns:
        "support_images" [way * shot, *bank.shape], class by class, of pictures uint8, "support_labels" int32
        [way * shot], "query_images" and "query_labels" likewise with query_shot for shot; with `unknown` also
        "unknown_images". The names are the same whatever the examples are.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> images = np.arange(12, dtype=np.uint8)[:, None, None, None]  # a picture is its own row number
        >>> bank = ImageBank(images, np.array([0, 4, 8, 12]), ("a", "b", "c"), "numbers train")
        >>> task = sample_task(bank, way=2, shot=1, query_shot=2, seed=0, split="train", index=7)
        >>> task["support_images"].ravel(), task["support_labels"]
        (array([8, 4], dtype=uint8), array([0, 1], dtype=int32))
        >>> task["query_images"].ravel(), task["query_labels"]
        (array([11, 10,  5,  7], dtype=uint8), array([0, 0, 1, 1], dtype=int32))
        >>> task = sample_task(bank, way=2, shot=1, query_shot=2, seed=0, split="train", index=7, unknown=3)
        >>> task["unknown_images"].ravel()  # of the third class
        array([1, 2, 0], dtype=uint8)
    """
    bits = task_bits(seed, split, index)
    classes, others = _draw_classes(bank, bits, way, shot + query_shot, others=unknown > 0)
    images = bank.take(_draw_rows(bank, bits, classes, shot + query_shot))
    if rotations:
        images = rotate(images, bits.random_raw(way) % 4)
    if augmentation:
        images = augment(images.reshape(-1, *bank.shape), augmentation, bits).reshape(images.shape)
    task = {
        "support_images": images[:, :shot].reshape(-1, *bank.shape),
        "support_labels": np.repeat(np.arange(way, dtype=np.int32), shot),
        "query_images": images[:, shot:].reshape(-1, *bank.shape),
        "query_labels": np.repeat(np.arange(way, dtype=np.int32), query_shot),
    }
    if unknown:
        task["unknown_images"] = _sample_unknown(bank, others, unknown, bits)
    return task


def _sample_unknown(bank: Bank, classes: np.ndarray, count: int, bits: np.random.Philox) -> np.ndarray:
    """Examples of these classes in turn, `[count, *bank.shape]`; none comes twice before all of its class have come."""
    rows = []
    for i, label in enumerate(classes[:count]):
        start, size = bank.offsets[label], bank.offsets[label + 1] - bank.offsets[label]
        own = -(-(count - i) // len(classes))
        rows.append(start + np.resize(_smallest(bits.random_raw(int(size)), int(size)), own))
    by_turn = [row[turn] for turn in range(len(rows[0])) for row in rows if turn < len(row)]
    return bank.take(np.array(by_turn)[np.newaxis])[0]


def unknown_classes(bank: Bank, way: int, shot: int, query_shot: int) -> int:
    """How many classes of a bank are left beside those of a task.

    Args:
        bank: that tasks are drawn from.
        way, shot, query_shot: of the tasks.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((8, 28, 28, 1), np.uint8), np.array([0, 4, 8]), ("a", "b"), "letters test")
        >>> unknown_classes(bank, way=2, shot=1, query_shot=3)
        0
    """
    return len(_large_enough(bank, shot + query_shot)) - way


def drawn_rows(bank: Bank, *, way: int, shot: int, query_shot: int, seed: int, split: str, index: int) -> np.ndarray:
    """Which pictures `sample_task` draws with the same arguments.

    Returns:
        Rows of the bank, int64 [way, shot + query_shot]: class by class, the support pictures first.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((12, 8, 8, 1), np.uint8), np.array([0, 4, 8, 12]), ("a", "b", "c"), "abc train")
        >>> drawn_rows(bank, way=2, shot=1, query_shot=2, seed=0, split="train", index=7)
        array([[ 8, 11, 10],
               [ 4,  5,  7]])
    """
    bits = task_bits(seed, split, index)
    classes, _ = _draw_classes(bank, bits, way, shot + query_shot)
    return _draw_rows(bank, bits, classes, shot + query_shot)


def _draw_classes(
    bank: Bank, bits: np.random.Philox, way: int, pictures: int, others: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The classes of a task and, if they are asked for, the others of the bank."""
    classes = _large_enough(bank, pictures)
    order = _smallest(bits.random_raw(len(classes)), len(classes) if others else way)
    return classes[order[:way]], classes[order[way:]]


def _draw_rows(bank: Bank, bits: np.random.Philox, classes: np.ndarray, pictures: int) -> np.ndarray:
    starts = bank.offsets[classes]
    sizes = bank.offsets[classes + 1] - starts
    keys = bits.random_raw(len(classes) * int(sizes.max())).reshape(len(classes), -1)
    keys[np.arange(keys.shape[1]) >= sizes[:, None]] = np.iinfo(np.uint64).max  # beyond the end of a smaller class
    return starts[:, None] + _smallest(keys, pictures)


def _smallest(keys: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest keys on the last axis, which are draws without repeat if keys are random."""
    if count < keys.shape[-1]:
        candidates = np.argpartition(keys, count - 1, axis=-1)[..., :count]
    else:
        candidates = np.broadcast_to(np.arange(count), keys.shape)
    # The order that argpartition leaves depends on the processor; that of the keys does not.
    order = np.argsort(np.take_along_axis(keys, candidates, -1), axis=-1)
    return np.take_along_axis(candidates, order, -1)


def _large_enough(bank: Bank, pictures: int) -> np.ndarray:
    """Numbers of the classes that have at least so many pictures."""
    return np.flatnonzero(np.diff(bank.offsets) >= pictures)


def check_bank(bank: Bank, way: int, shot: int, query_shot: int) -> None:
    """Checks that tasks of this shape can be drawn from a bank.

    Args:
        bank: pictures to draw from.
        way: classes a task.
        shot: support pictures a class.
        query_shot: query pictures a class.

    Warns:
        UserWarning: some classes have fewer than shot + query_shot pictures and are left out; counts them.

    Raises:
        UserError: fewer than `way` classes have so many pictures; names the bank and the counts.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((8, 28, 28, 1), np.uint8), np.array([0, 4, 8]), ("a", "b"), "letters test")
        >>> check_bank(bank, way=2, shot=1, query_shot=3)
        >>> check_bank(bank, way=5, shot=1, query_shot=3)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: letters test: has 2 classes, fewer than way=5; use a smaller way
    """
    classes = len(bank.class_names)
    if classes < way:
        divide = " or divide its source's classes otherwise: data.split_fractions, data.split_file"
        advice = "use a smaller way" + (divide if bank.by_fractions else "")
        raise UserError(f"{bank.name}: has {classes} classes, fewer than way={way}; {advice}")
    usable = len(_large_enough(bank, shot + query_shot))
    examples = bank.inputs.kind.examples
    needed = f"shot + query_shot = {shot} + {query_shot} {examples}"
    if usable < way:
        raise UserError(
            f"{bank.name}: only {usable} of its {classes} classes have {needed}, fewer than way={way}; add {examples} "
            "or ask for fewer"
        )
    if usable < classes:
        sizes = np.diff(bank.offsets)
        smallest = int(np.argmin(sizes))
        warnings.warn(
            f"{bank.name}: {classes - usable} of its {classes} classes have fewer than {needed} and are left out; "
            f"{bank.class_names[smallest]} has {sizes[smallest]}",
            stacklevel=1,  # one place, so that Python shows each warning once
        )


def episodes(
    source: str | Bank | Mapping[str, Bank],
    path: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    way: int,
    shot: int,
    query_shot: int,
    tasks: int,
    seed: int = 0,
    start: int = 0,
    count: int | None = None,
    rotations: bool | None = None,
    augmentation: Augmentation | None = None,
    support_copies: SupportCopies | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    normalise: bool = True,
    sample_rate: int | None = None,
    seconds: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    mel_bands: int | None = None,
    split_seed: int = 0,
    split_fractions: Sequence[float] = FRACTIONS,
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    unknown: int = 0,
    prepared: bool = True,
) -> tf.data.Dataset:
    """Meta-batches of few-shot tasks; element s holds tasks s * tasks to (s + 1) * tasks - 1 of the split.

    Args:
        source: name of a source (see `load_banks`), or banks loaded before: one, or a dict with an entry for
            `split`.
        path: where the source's data lies. This argument, image_size, channels, resize, normalise, those of sound,
            split_seed, split_fractions, split_file, skip_damaged and cache_dir are those of `load_banks` and have an
            effect only where `source` is a name.
        split: "train", "validation" or "test".
        way: classes a task.
        shot: support pictures a class.
        query_shot: query pictures a class.
        tasks: tasks a meta-batch.
        seed: seed of the tasks.
        start: number of the first meta-batch, to resume.
        count: how many meta-batches; None for no end.
        rotations: turn each class by a random multiple of 90 degrees; None: only Omniglot's training tasks.
        augmentation: random crops, flips and colours of every picture, for training; None for pictures as they are.
        support_copies: changed copies of the support pictures, added to each task for a test; None for none.
        mean: of pictures, per channel, on the scale 0..1; None: the bank's own, see `pixel_statistics`.
        std: likewise.
        image_size: height and width in pixels; None: the source's.
        channels: 1 or 3; None: the source's.
        resize: "stretch" or "crop".
        normalise: of "arrays".
        sample_rate, seconds, window, hop, mel_bands: of "audio_folder", see `SoundFormat`.
        split_seed: seed of the division of classes into splits, where the source has none of its own.
        split_fractions: shares of the classes that train, validation and test get then.
        split_file: JSON file that lists the classes of each split, or a standard division such as "standard:cub".
        skip_damaged: leave out pictures that cannot be read.
        cache_dir: the cache folder.
        unknown: pictures of other classes of the split that each task gets too, see `sample_task`.
        prepared: whether examples are as the model takes them; else they are as the bank has them.

    Returns:
        Dataset of dicts: "support_images" [tasks, way * shot, ...], of pictures float32 [..., H, W, C] normalised,
        "support_labels" int32 [tasks, way * shot], "query_images", "query_labels" likewise; with `unknown` also
        "unknown_images" [tasks, unknown, ...]; all shapes static.

    Raises:
        UserError: the data are missing, damaged or too few for such tasks.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> images = np.zeros((60, 28, 28, 1), np.uint8)
        >>> bank = ImageBank(images, np.arange(0, 61, 20), ("a", "b", "c"), "letters train")
        >>> dataset = episodes(bank, way=3, shot=1, query_shot=5, tasks=4, count=2)
        >>> [batch["support_images"].shape for batch in dataset.as_numpy_iterator()]
        [(4, 3, 28, 28, 1), (4, 3, 28, 28, 1)]
        >>> next(iter(dataset))["query_labels"].shape
        TensorShape([4, 15])
    """
    if isinstance(source, str):
        source = load_banks(
            source,
            path,
            image_size=image_size,
            channels=channels,
            resize=resize,
            normalise=normalise,
            sample_rate=sample_rate,
            seconds=seconds,
            window=window,
            hop=hop,
            mel_bands=mel_bands,
            split_seed=split_seed,
            split_fractions=split_fractions,
            split_file=split_file,
            skip_damaged=skip_damaged,
            cache_dir=cache_dir,
        )
    bank = source if isinstance(source, Bank) else _of_split(source, split)
    check_bank(bank, way, shot, query_shot)
    called = bank.inputs.kind.examples
    if unknown and unknown_classes(bank, way, shot, query_shot) < 1:
        raise UserError(f"{bank.name}: has no class beside the {way} of a task: unknown {called} cannot be drawn")
    if rotations is None:
        rotations = is_omniglot(bank.source) and split == "train"
    active = augmentation if augmentation and augmentation.active else None
    changes = {"rotations": rotations, "augmentation": active, "support_copies": support_copies}
    _check_changes(bank, {**changes, "mean": mean, "std": std})
    inputs = bank.inputs
    if isinstance(inputs, PictureFormat):
        inputs = dataclasses.replace(inputs, mean=inputs.mean if mean is None else tuple(mean))
        inputs = dataclasses.replace(inputs, std=inputs.std if std is None else tuple(std))

    def to_inputs(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {k: inputs.prepare(v) if k.endswith("images") else v for k, v in batch.items()}

    shape = {"way": way, "shot": shot, "query_shot": query_shot}
    settings: dict[str, Any] = {"rotations": rotations, "augmentation": augmentation, "unknown": unknown, **shape}
    sample: Callable[..., Task] = partial(sample_task, bank, seed=seed, split=split, **settings)
    spec = _task_spec(bank, **shape)
    if support_copies:
        sample = with_copies(sample, support_copies, seed=seed, split=split)
        spec = _task_spec(bank, way, shot * (1 + support_copies.count), query_shot)
    if unknown:
        spec["unknown_images"] = tf.TensorSpec([unknown, *bank.shape], bank.dtype)
    batches = meta_batches(sample, spec, tasks=tasks, start=start, count=count)
    return (batches.map(to_inputs) if prepared else batches).prefetch(1)


def _check_changes(bank: Bank, changes: Mapping[str, Any]) -> None:
    """Refuses changes of pictures that a bank's examples cannot have.

    Args:
        bank: to draw from.
        changes: the arguments of `episodes` by their names.
    """
    wanted = next((name for name, change in changes.items() if change), None)
    if not bank.inputs.kind.is_pictures:
        if wanted:
            raise UserError(f"{wanted} is for pictures, and {bank.name} has none")
        return
    if changes["rotations"] and bank.shape[0] != bank.shape[1]:
        raise UserError(f"{bank.name}: rotations need square pictures, not {bank.shape[:2]}")
    copies = changes["support_copies"]
    for augmentation in (changes["augmentation"], copies and copies.augmentation):
        if augmentation:
            augmentation.check_pictures(bank.shape[:2], bank.shape[-1])


def _task_spec(bank: Bank, way: int, shot: int, query_shot: int) -> dict[str, tf.TensorSpec]:
    """Shapes and types of what `sample_task` returns."""
    spec = {}
    for part, count in (("support", way * shot), ("query", way * query_shot)):
        spec[f"{part}_images"] = tf.TensorSpec([count, *bank.shape], bank.dtype)
        spec[f"{part}_labels"] = tf.TensorSpec([count], tf.int32)
    return spec


def _of_split(banks: Mapping[str, Bank], split: str) -> Bank:
    if split not in banks:
        raise UserError(f"unknown split {split!r}; known are {', '.join(banks)}")
    return banks[split]
