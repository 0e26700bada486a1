"""Batches of labelled pictures, to learn all classes of a bank at once: batch i is a pure function of (seed, i)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.augmentation import Augmentation, augment, rotate
from tf_mamlpp.data.bank import Bank
from tf_mamlpp.data.task_stream import Task, meta_batches, task_bits
from tf_mamlpp.errors import UserError

_STREAM = "pretraining"  # of random bits, beside those of the splits


def updates_per_epoch(bank: Bank, batch: int) -> int:
    """How many batches an epoch has: every picture at most once, the last ones that do not fill a batch left out.

    Raises:
        UserError: there is not one.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((8, 4, 4, 1), np.uint8), np.array([0, 4, 8]), ("a", "b"), "letters train")
        >>> updates_per_epoch(bank, 3)
        2
    """
    if batch > len(bank):
        raise UserError(f"{bank.name}: has {len(bank)} {bank.inputs.kind.examples}, fewer than a batch of {batch}")
    return len(bank) // batch


def picture_batches(
    bank: Bank,
    *,
    batch: int,
    parts: int,
    seed: int = 0,
    start: int = 0,
    rotations: bool = False,
    augmentation: Augmentation | None = None,
) -> tf.data.Dataset:
    """Endless batches of pictures with the numbers of their classes, each epoch in another order.

    Args:
        bank: of the pictures.
        batch: pictures of an element, a multiple of `parts`.
        parts: that the pictures of an element are divided into, as the tasks of a meta-batch are.
        seed: of the order and of the augmentation.
        start: number of the first batch, to resume.
        rotations: each picture is turned by a random multiple of 90 degrees, and a turned class is a class of its own:
            class c turned t times has the number t * classes + c.
        augmentation: drawn for each picture; None for pictures as they are.

    Returns:
        Dataset of dicts: "support_images" [parts, batch / parts, ...] as the model takes them, "support_labels" int32
        [parts, batch / parts]; shapes static.

    Raises:
        UserError: a batch has more pictures than there are.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((8, 4, 4, 1), np.uint8), np.array([0, 4, 8]), ("a", "b"), "letters train")
        >>> batches = picture_batches(bank, batch=6, parts=2)
        >>> next(iter(batches))["support_images"].shape
        TensorShape([2, 3, 4, 4, 1])
    """
    size, per_epoch = batch // parts, updates_per_epoch(bank, batch) * parts
    order = lru_cache(maxsize=1)(lambda epoch: _order(len(bank), seed, epoch))

    def sample(index: int) -> Task:
        epoch, place = divmod(index, per_epoch)
        rows = order(epoch)[place * size : (place + 1) * size]
        images, bits = bank.take(rows[np.newaxis])[0], task_bits(seed, _STREAM, index)
        labels = np.searchsorted(bank.offsets, rows, side="right") - 1
        if rotations:
            turns = (bits.random_raw(size) % 4).astype(np.int64)
            images, labels = rotate(images, turns), labels + turns * len(bank.class_names)
        if augmentation:
            images = augment(images, augmentation, bits)
        return {"support_images": images, "support_labels": labels.astype(np.int32)}

    spec = {
        "support_images": tf.TensorSpec([size, *bank.shape], bank.dtype),
        "support_labels": tf.TensorSpec([size], tf.int32),
    }

    def to_inputs(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {**element, "support_images": bank.inputs.prepare(element["support_images"])}

    return meta_batches(sample, spec, tasks=parts, start=start, count=None).map(to_inputs).prefetch(1)


def _order(pictures: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of all pictures in the order of an epoch."""
    return np.argsort(task_bits(seed, f"{_STREAM} order", epoch).random_raw(pictures), kind="stable")
