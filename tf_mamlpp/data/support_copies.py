"""Changed copies of a task's support pictures, to adapt to more than the few that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tf_mamlpp.checks import check_fields
from tf_mamlpp.data.augmentation import Augmentation, augment
from tf_mamlpp.data.task_stream import Task, task_bits
from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class SupportCopies:
    """How many copies each support picture of a task gets, and how they differ from it.

    Args:
        count: of the copies of a picture, beside the picture itself.
        augmentation: drawn for each copy.

    Raises:
        UserError: a value of another type or out of range, or an augmentation that changes nothing.

    Example:
        >>> SupportCopies(count=4, augmentation=Augmentation(crop_padding=2)).count
        4
        >>> SupportCopies(count=4, augmentation=Augmentation())
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: augmentation changes nothing: copies of a picture would all be the same
    """

    count: int
    augmentation: Augmentation

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.augmentation.active:
            raise UserError("augmentation changes nothing: copies of a picture would all be the same")


def usual_changes(image_size: tuple[int, int], channels: int) -> Augmentation:
    """What is done to the copies where a config has no augmentation of its own.

    Grey pictures are moved by up to a fourteenth of their side, as in the configs of Omniglot: a drawing that is
    mirrored is often another character, and it has no colours. Colour pictures are also mirrored, and made brighter,
    darker or paler, as in the config of mini-ImageNet.

    Args:
        image_size: height and width in pixels.
        channels: 1 or 3.

    Example:
        >>> usual_changes((28, 28), 1)
        Augmentation(crop_padding=2, flip=False, brightness=0.0, contrast=0.0, saturation=0.0)
        >>> usual_changes((84, 84), 3)
        Augmentation(crop_padding=6, flip=True, brightness=0.4, contrast=0.4, saturation=0.4)
    """
    padding = max(1, min(image_size) // 14)
    if channels == 1:
        return Augmentation(crop_padding=padding)
    return Augmentation(crop_padding=padding, flip=True, brightness=0.4, contrast=0.4, saturation=0.4)


def with_copies(sample: Callable[..., Task], copies: SupportCopies, *, seed: int, split: str) -> Callable[..., Task]:
    """A function that draws the same tasks as `sample`, with copies of their support pictures.

    Args:
        sample: called with `index=` a number, gives that task as `sample_task` does.
        copies: how many, and how they are changed.
        seed, split: of the tasks. With a task's number they decide what its copies are.

    Returns:
        A function like `sample`; each support picture is followed by its copies.

    Example:
        >>> picture = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)
        >>> sample = lambda index: {"support_images": picture, "support_labels": np.array([0])}
        >>> copies = SupportCopies(count=2, augmentation=Augmentation(crop_padding=1))
        >>> task = with_copies(sample, copies, seed=0, split="test")(index=0)
        >>> task["support_labels"].tolist(), task["support_images"][0].ravel().tolist()
        ([0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8])
    """

    def sample_with_copies(*, index: int) -> Task:
        task = sample(index=index)
        images, times = task["support_images"], copies.count + 1
        repeated = np.repeat(images, copies.count, axis=0)
        # Bits of their own, so that the task stays the one that is drawn without copies.
        changed = augment(repeated, copies.augmentation, task_bits(seed, f"{split} support copies", index))
        pairs = np.concatenate([images[:, None], changed.reshape(len(images), copies.count, *images.shape[1:])], axis=1)
        return {
            **task,
            "support_images": pairs.reshape(-1, *images.shape[1:]),
            "support_labels": np.repeat(task["support_labels"], times),
        }

    return sample_with_copies
