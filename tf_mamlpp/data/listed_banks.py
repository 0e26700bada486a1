"""Banks of what a source lists, read through the cache: a bank for each split, or one of all classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable

from tf_mamlpp.data.bank_cache import cached_bank
from tf_mamlpp.data.cached_bank import CachedBank
from tf_mamlpp.data.damaged_pictures import DamagedPictures
from tf_mamlpp.data.example_reader import ExampleReader
from tf_mamlpp.data.sources.listing import Splits, pooled


def listed_banks(
    splits: Splits,
    reader: ExampleReader,
    *,
    name: str,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, CachedBank]:
    """Reads the examples of each split.

    Args:
        splits: what a source lists.
        reader: of its examples.
        name: of the source.
        skip_damaged: leave out examples that cannot be read, and warn of them.
        cache_dir: see `cache_root`.

    Raises:
        DamagedPictures: examples of any split cannot be read; names them.

    Example:
        >>> import numpy as np
        >>> from tf_mamlpp.data.picture_reader import PictureReader
        >>> from tf_mamlpp.data.sources.listing import Pictures
        >>> listed = Pictures(("ant",), (1,), lambda: zip([0], ["a0"], [np.full((6, 6), 9, np.uint8)]))
        >>> splits = {"train": ("version 1", lambda: listed)}
        >>> listed_banks(splits, PictureReader((4, 4), 1), name="insects", cache_dir=tmp_path)["train"].name
        'insects train'
    """
    banks, damage = dict[str, CachedBank](), list[str]()
    for split, (key, open_listed) in splits.items():
        called = f"{name} {split}"
        try:
            banks[split] = cached_bank(
                key, open_listed, reader, name=called, skip_damaged=skip_damaged, cache_dir=cache_dir
            )
        except DamagedPictures as error:  # the other splits may have some too
            damage += error.damage
    if damage:
        raise DamagedPictures.of(damage, reader.kind)
    _warn_of_damage(name, reader, banks.values())
    return banks


def listed_pool(
    splits: Splits,
    reader: ExampleReader,
    *,
    name: str,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> CachedBank:
    """Reads the examples of all splits as one bank; arguments and errors are those of `listed_banks`.

    Example:
        >>> import numpy as np
        >>> from tf_mamlpp.data.picture_reader import PictureReader
        >>> from tf_mamlpp.data.sources.listing import Pictures
        >>> listed = Pictures(("ant",), (1,), lambda: zip([0], ["a0"], [np.full((6, 6), 9, np.uint8)]))
        >>> splits = {"train": ("version 1", lambda: listed), "test": ("version 2", lambda: listed)}
        >>> bank = listed_pool(splits, PictureReader((4, 4), 1), name="insects", cache_dir=tmp_path)
        >>> bank.name, bank.class_names, len(bank)
        ('insects all', ('ant',), 2)
    """
    key, open_listed = pooled(splits)
    bank = cached_bank(key, open_listed, reader, name=f"{name} all", skip_damaged=skip_damaged, cache_dir=cache_dir)
    _warn_of_damage(name, reader, [bank])
    return bank


def _warn_of_damage(name: str, reader: ExampleReader, banks: Iterable[CachedBank]) -> None:
    left_out = [text for bank in banks for text in bank.damaged]
    if left_out:
        called = reader.kind.examples
        warnings.warn(f"{name}: left out {len(left_out)} damaged {called}, such as {left_out[0]}", stacklevel=1)
