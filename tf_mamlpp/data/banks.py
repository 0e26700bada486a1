"""Loading the data sources by name."""

from __future__ import annotations

import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

from tf_mamlpp.data.bank_cache import build_or_load, shared_pictures
from tf_mamlpp.data.damaged_pictures import DamagedPictures
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.pixel_defaults import pixel_format
from tf_mamlpp.data.sources.glyphs import glyph_splits
from tf_mamlpp.data.sources.image_folder import folder_splits
from tf_mamlpp.data.sources.listing import Splits, pooled
from tf_mamlpp.data.sources.mini_imagenet import mini_imagenet_splits
from tf_mamlpp.data.sources.omniglot import omniglot_splits
from tf_mamlpp.data.sources.splits import FRACTIONS, check_fractions, same_name
from tf_mamlpp.data.sources.tfds import tfds_splits
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded

NAMES = ("glyphs", "omniglot", "mini_imagenet", "image_folder", "tfds:<name>")


def load_banks(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    split_seed: int = 0,
    split_fractions: Sequence[float] = FRACTIONS,
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, ImageBank]:
    """Loads a source, decoding its pictures into the cache the first time.

    Args:
        name: "glyphs" (embedded, needs no path), "omniglot" (folder with the official archives or the folders
            unpacked from them), "mini_imagenet" (folder with archives train*.tar.gz, val*.tar.gz and test*.tar.gz or
            the folders unpacked from them), "image_folder" (a tree of class folders, with or without train/, val/ and
            test/ above them), or "tfds:NAME" (a classification set of TensorFlow Datasets; the path is its
            data_dir).
        path: where the data lies.
        image_size: height and width in pixels; None: the source's usual size, see `pixel_format`.
        channels: 1 for grey, 3 for RGB; None: the source's usual.
        resize: "stretch" or "crop", for pictures of other proportions, see `tf_mamlpp.data.resize`.
        split_seed: seed of the division of classes, where the source has no division of its own.
        split_fractions: shares of the classes that train, validation and test get then; for "image_folder" and
            "tfds:NAME".
        split_file: JSON file that lists the classes of each split instead, or the name of a standard division, see
            `divide_classes`; for "omniglot", "image_folder" and "tfds:NAME".
        skip_damaged: leave out pictures that cannot be read, and warn of them. Otherwise they are an error.
        cache_dir: the cache folder; see `cache_root`.

    Returns:
        Banks "train", "validation" and "test", which share no class.

    Warns:
        UserWarning: the same picture is in two splits, or pictures are left out.

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
    usual_size, usual_channels = pixel_format(name)
    image_size, channels = image_size or usual_size, channels or usual_channels
    if channels not in (1, 3):
        raise UserError(f"channels={channels}: must be 1 (grey) or 3 (RGB)")
    banks, damage = dict[str, ImageBank](), list[str]()
    for split, (key, open_pictures) in _open_source(name, path, split_seed, split_fractions, split_file).items():
        try:
            banks[split] = build_or_load(
                key,
                open_pictures,
                name=f"{name} {split}",
                image_size=image_size,
                channels=channels,
                resize=resize,
                skip_damaged=skip_damaged,
                cache_dir=cache_dir,
            )
        except DamagedPictures as error:  # the other splits may have some too
            damage += error.damage
    if damage:
        raise DamagedPictures.of(damage)
    _warn_of_damage(name, banks.values())
    _check_disjoint(banks)
    return banks


def load_pool(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: tuple[int, int],
    channels: int,
    resize: str = "stretch",
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ImageBank:
    """Loads all classes of a source as one bank, however the source divides them; to test on, never to train on.

    Args:
        name, path, image_size, channels, resize, skip_damaged, cache_dir: as for `load_banks`.
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
    has_own = name in ("glyphs", "omniglot", "mini_imagenet") or split_file is not None
    fractions = FRACTIONS if has_own else (1.0, 0.0, 0.0)  # else too few classes could not be divided
    key, open_pictures = pooled(_open_source(name, path, 0, fractions, split_file))
    bank = build_or_load(
        key,
        open_pictures,
        name=f"{name} all",
        image_size=image_size,
        channels=channels,
        resize=resize,
        skip_damaged=skip_damaged,
        cache_dir=cache_dir,
    )
    _warn_of_damage(name, [bank])
    return bank


def _warn_of_damage(name: str, banks: Iterable[ImageBank]) -> None:
    left_out = [text for bank in banks for text in bank.damaged]
    if left_out:
        warnings.warn(f"{name}: left out {len(left_out)} damaged pictures, such as {left_out[0]}", stacklevel=1)


def _open_source(
    name: str,
    path: str | os.PathLike[str] | None,
    split_seed: int,
    split_fractions: Sequence[float],
    split_file: str | os.PathLike[str] | None,
) -> Splits:
    if split_file is not None and name in ("glyphs", "mini_imagenet"):
        raise UserError(f"data source {name!r} has splits of its own: it takes no split file")
    check_fractions("split_fractions", split_fractions)
    if tuple(split_fractions) != FRACTIONS:
        if name in ("glyphs", "omniglot", "mini_imagenet"):
            raise UserError(f"data source {name!r} has splits of its own: it takes no split fractions")
        if split_file is not None:
            raise UserError("split fractions and a split file contradict: choose one")
    if name == "glyphs":
        return glyph_splits()
    try:
        return _open_files(name, path, split_seed, split_fractions, split_file)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error


def _open_files(
    name: str,
    path: str | os.PathLike[str] | None,
    split_seed: int,
    split_fractions: Sequence[float],
    split_file: str | os.PathLike[str] | None,
) -> Splits:
    if name.startswith("tfds:"):
        return tfds_splits(name, path, split_seed, split_file, split_fractions)
    if name not in NAMES:
        raise UserError(f"unknown data source {name!r}; known are {', '.join(NAMES)}")
    if path is None:
        raise UserError(f"data source {name!r} needs a path: the folder that holds its pictures")
    folder = expanded(path)
    if name == "mini_imagenet":
        return mini_imagenet_splits(folder)
    if name == "omniglot":
        return omniglot_splits(folder, split_seed, split_file)
    return folder_splits(folder, split_seed, split_file, split_fractions)


def _check_disjoint(banks: dict[str, ImageBank]) -> None:
    """Raises a UserError if a class is in two splits: testing on a class of training would prove nothing.

    Warns of pictures that are in two splits.
    """
    names = {split: Counter(map(same_name, bank.class_names)) for split, bank in banks.items()}
    for split, found in names.items():
        twice = [name for name, count in found.items() if count > 1]
        if twice:
            raise UserError(
                f"{banks[split].name} has the class {twice[0]} twice, its accents in two forms of Unicode: put its "
                "pictures together"
            )
    for (split, one), (other_split, other) in itertools.combinations(banks.items(), 2):
        shared = sorted(names[split] & names[other_split])
        if shared:
            raise UserError(
                f"{one.name} and {other.name} share {len(shared)} classes, such as {shared[0]}; splits must "
                "not (to have a pool of classes divided, give a folder without train/ and test/)"
            )
        pictures = shared_pictures(one, other)
        if pictures:
            count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
            warnings.warn(
                f"{one.name} and {other.name} share {count}, such as {pictures[0][0]} and {pictures[0][1]}: remove "
                "them from one",
                stacklevel=1,
            )
