"""Which features of a set of TensorFlow Datasets are pictures and classes.  Imports that only when used."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError


def picture_and_label(builder: Any, name: str) -> tuple[str, str]:
    """The names of the features that hold a set's pictures and their labels.

    Args:
        builder: of TensorFlow Datasets.
        name: what to call the set in an error.

    Raises:
        UserError: the set has no such features.

    Example:
        >>> import tensorflow_datasets as tfds
        >>> picture_and_label(tfds.builder("cifar100", data_dir=tmp_path), "tfds:cifar100")
        ('image', 'label')
    """
    features, candidates = builder.info.features, [("image", "label")]
    supervised = builder.info.supervised_keys
    if isinstance(supervised, tuple) and len(supervised) == 2 and all(isinstance(key, str) for key in supervised):
        candidates.append(supervised)
    for image, label in candidates:
        if image in features and label in features and _is_picture(features[image]) and _is_class(features[label]):
            return image, label
    raise UserError(
        f"{name}: is no classification set that can be read: it needs the features 'image' and 'label', or "
        "supervised_keys that name such: a picture (an Image of whole numbers, or a Tensor of uint8 of the shape "
        "[H, W] or [H, W, 1, 3 or 4]) and a class (a ClassLabel with its classes, a Text or an integer); it has "
        f"{', '.join(f'{key!r} ({_kind(feature)})' for key, feature in features.items())}"
    )


def _is_picture(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Image):
        # TFDS keeps floating-point pictures as PNG whose four channels are the bytes of a number.
        return np.issubdtype(feature.np_dtype, np.integer)
    shape: tuple[int | None, ...] = feature.shape if isinstance(feature, tfds.features.Tensor) else ()
    plain = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    return plain and feature.np_dtype == np.uint8


def _is_class(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return bool(feature.num_classes)
    if isinstance(feature, tfds.features.Text):
        return True
    is_scalar = isinstance(feature, tfds.features.Tensor) and feature.shape == ()
    return is_scalar and np.issubdtype(feature.np_dtype, np.integer)


def _kind(feature: Any) -> str:
    """What a feature is, for an error."""
    import tensorflow_datasets as tfds

    kind = type(feature).__name__
    if isinstance(feature, tfds.features.Text):
        return kind
    if isinstance(feature, tfds.features.ClassLabel):
        return f"{kind} of {feature.num_classes or 'no'} classes"
    if isinstance(feature, tfds.features.Image | tfds.features.Tensor):
        return f"{kind} of {np.dtype(feature.np_dtype).name} {list(feature.shape)}"
    return kind


def class_names(feature: Any) -> list[str]:
    """The classes of a ClassLabel, `0`, `1`, ... where they have no names; none for labels that must be read first.

    Example:
        >>> import tensorflow_datasets as tfds
        >>> class_names(tfds.features.ClassLabel(names=["ant", "bee"]))
        ['ant', 'bee']
        >>> class_names(tfds.features.ClassLabel(num_classes=2))
        ['0', '1']
        >>> class_names(tfds.features.Text())
        []
    """
    import tensorflow_datasets as tfds

    if not isinstance(feature, tfds.features.ClassLabel):
        return []
    return [feature.int2str(number) for number in range(feature.num_classes)]
