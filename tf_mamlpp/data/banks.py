"""Loading the data sources by name."""

from __future__ import annotations

import itertools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tf_mamlpp.data.bank import Bank, shared_examples
from tf_mamlpp.data.kinds import ARRAYS, SOUND, kind_of
from tf_mamlpp.data.picture_banks import NAMES as PICTURE_SOURCES
from tf_mamlpp.data.picture_banks import load_picture_pool, load_pictures
from tf_mamlpp.data.sound.sound_banks import load_recording_pool, load_recordings
from tf_mamlpp.data.sources.arrays import load_array_pool, load_arrays
from tf_mamlpp.data.sources.splits import FRACTIONS, check_fractions, same_name
from tf_mamlpp.errors import UserError

NAMES = (*PICTURE_SOURCES, "audio_folder", "arrays")

# For each kind of data that lies at a path: what loads its splits, and what loads all of its classes as one bank.
# They take the path, the division of the classes, and the settings of their kind.
_LOADERS: dict[str, tuple[Callable[..., Mapping[str, Bank]], Callable[..., Bank]]] = {
    ARRAYS.name: (load_arrays, load_array_pool),
    SOUND.name: (load_recordings, load_recording_pool),
}

_USUAL = {
    **dict.fromkeys(("image_size", "channels", "sample_rate", "seconds", "window", "hop", "mel_bands", "cache_dir")),
    **{"resize": "stretch", "normalise": True, "skip_damaged": False},
}


def load_banks(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
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
) -> dict[str, Bank]:
    """Loads a source; pictures and recordings are decoded into the cache the first time.

    Args:
        name: "glyphs" (embedded, needs no path), "omniglot" (folder with the official archives or the folders
            unpacked from them), "mini_imagenet" (folder with archives train*.tar.gz, val*.tar.gz and test*.tar.gz or
            the folders unpacked from them), "image_folder" (a tree of class folders, with or without train/, val/ and
            test/ above them), "tfds:NAME" (a classification set of TensorFlow Datasets; the path is its data_dir),
            "audio_folder" (such a tree of files of sound), or "arrays" (a file or folder of arrays of any shape, see
            `sources.arrays.load_arrays`).
        path: where the data lies.
        image_size: height and width in pixels; None: the source's usual size, see `pixel_format`.
        channels: 1 for grey, 3 for RGB; None: the source's usual.
        resize: "stretch" or "crop", for pictures of other proportions, see `tf_mamlpp.data.resize`.
        normalise: of "arrays": bring each feature to mean 0 and deviation 1 over the training classes.
        sample_rate, seconds, window, hop, mel_bands: of "audio_folder", see `SoundFormat`; None: its defaults.
        split_seed: seed of the division of classes, where the source has no division of its own.
        split_fractions: shares of the classes that train, validation and test get then; for "image_folder",
            "tfds:NAME", "audio_folder" and "arrays".
        split_file: JSON file that lists the classes of each split instead, or the name of a standard division, see
            `divide_classes`; for "omniglot", "image_folder", "tfds:NAME", "audio_folder" and "arrays".
        skip_damaged: leave out pictures and recordings that cannot be read, and warn of them. Otherwise they are an
            error.
        cache_dir: the cache folder; see `cache_root`.

    Returns:
        Banks "train", "validation" and "test", which share no class.

    Warns:
        UserWarning: the same example is in two splits, or examples are left out.

    Raises:
        UserError: unknown name; data that is missing, damaged, or has too few classes.

    Example:
        >>> from PIL import Image
        >>> for number, name in enumerate(("ant", "bee", "cat", "dog", "elk")):
        ...     (tmp_path / "animals" / name).mkdir(parents=True)
        ...     Image.new("L", (9, 9), 40 * number).save(tmp_path / "animals" / name / "1.png")
        >>> banks = load_banks("image_folder", tmp_path / "animals", image_size=(8, 8), cache_dir=tmp_path / "cache")
        >>> {split: bank.class_names for split, bank in banks.items()}
        {'train': ('ant', 'bee', 'dog'), 'validation': ('cat',), 'test': ('elk',)}
        >>> banks["train"].images.shape
        (3, 8, 8, 3)
    """
    given = {
        "image_size": image_size,
        "channels": channels,
        "resize": resize,
        "normalise": normalise,
        "sample_rate": sample_rate,
        "seconds": seconds,
        "window": window,
        "hop": hop,
        "mel_bands": mel_bands,
        "skip_damaged": skip_damaged,
        "cache_dir": cache_dir,
    }
    check_fractions("split_fractions", split_fractions)
    division = {"split_seed": split_seed, "split_fractions": split_fractions, "split_file": split_file}
    banks: dict[str, Bank] = dict(_loader(name, path, 0, given)(**division))
    _check_disjoint(banks)
    return banks


def load_pool(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    sample_rate: int | None = None,
    seconds: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    mel_bands: int | None = None,
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Bank:
    """Loads all classes of a source as one bank, however the source divides them; to test on, never to train on.

    Args:
        name, path, image_size, channels, resize, skip_damaged, cache_dir: as for `load_banks`.
        sample_rate, seconds, window, hop, mel_bands: likewise.
        split_file: takes only the classes that it lists.

    Returns:
        The bank "all". A class that is in several splits of a folder, such as train/cat and test/cat, is one class.

    Raises:
        UserError: unknown name; data that is missing or damaged.

    Example:
        >>> from PIL import Image
        >>> for name in ("train/ant", "val/ant", "test/bee"):
        ...     (tmp_path / "animals" / name).mkdir(parents=True)
        ...     Image.new("L", (9, 9)).save(tmp_path / "animals" / name / "1.png")
        >>> bank = load_pool(
        ...     "image_folder", tmp_path / "animals", image_size=(8, 8), channels=1, cache_dir=tmp_path / "cache"
        ... )
        >>> bank.name, bank.class_names, bank.offsets.tolist()
        ('image_folder all', ('ant', 'bee'), [0, 2, 3])
    """
    given = {
        "image_size": image_size,
        "channels": channels,
        "resize": resize,
        "sample_rate": sample_rate,
        "seconds": seconds,
        "window": window,
        "hop": hop,
        "mel_bands": mel_bands,
        "skip_damaged": skip_damaged,
        "cache_dir": cache_dir,
    }
    bank: Bank = _loader(name, path, 1, given)(split_file=split_file)
    return bank


def _loader(name: str, path: str | os.PathLike[str] | None, of: int, given: Mapping[str, Any]) -> Callable[..., Any]:
    """What loads a source, its splits (0) or its pool (1), with the settings of its kind."""
    kind = kind_of(name)
    kind.check_settings(name, given, _USUAL)
    settings = {key: value for key, value in given.items() if key in kind.settings}
    if kind.is_pictures:
        return partial((load_pictures, load_picture_pool)[of], name, path, **settings)
    if kind.name not in _LOADERS:
        raise UserError(f"data source {name!r} is made as it is needed: there is nothing to load")
    if path is None:
        raise UserError(f"data source {name!r} needs a path: where its {kind.examples} are")
    return partial(_LOADERS[kind.name][of], path, **settings)


def _check_disjoint(banks: Mapping[str, Bank]) -> None:
    """Raises a UserError if a class is in two splits: testing on a class of training would prove nothing.

    Warns of examples that are in two splits.
    """
    names = {split: Counter(map(same_name, bank.class_names)) for split, bank in banks.items()}
    for split, found in names.items():
        twice = [name for name, count in found.items() if count > 1]
        if twice:
            raise UserError(
                f"{banks[split].name} has the class {twice[0]} twice, its accents in two forms of Unicode: put its "
                f"{banks[split].inputs.kind.examples} together"
            )
    for (split, one), (other_split, other) in itertools.combinations(banks.items(), 2):
        shared = sorted(names[split] & names[other_split])
        if shared:
            raise UserError(
                f"{one.name} and {other.name} share {len(shared)} classes, such as {shared[0]}; splits must "
                "not (to have a pool of classes divided, give a folder without train/ and test/)"
            )
        examples = shared_examples(one, other)
        if examples:
            kind = one.inputs.kind
            count = f"{len(examples)} {kind.examples if len(examples) > 1 else kind.example}"
            warnings.warn(
                f"{one.name} and {other.name} share {count}, such as {examples[0][0]} and {examples[0][1]}: remove "
                "them from one",
                stacklevel=1,
            )
