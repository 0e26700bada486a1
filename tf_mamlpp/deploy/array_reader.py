"""Arrays in files, for `tf-mamlpp adapt`: labelled ones to learn, and others to classify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.data.array_bank import ArrayBank, Examples
from tf_mamlpp.data.sources.arrays import load_array_pool, load_queries
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.queries import Queries
from tf_mamlpp.errors import UserError


def read_support(model: DeployedModel, path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labelled arrays, as `DeployedModel.adapt` takes them.

    Args:
        model: the deployed model.
        path: see `sources.arrays.load_arrays`.

    Raises:
        UserError: they cannot be read, are not what the model takes, or have more classes than it tells apart.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.array_format import ArrayFormat
        >>> np.savez(tmp_path / "classes.npz", cat=np.zeros((2, 3)), dog=np.ones((1, 3)))
        >>> model = SimpleNamespace(inputs=ArrayFormat((3,), "float32"), way=5)
        >>> inputs, labels, names = read_support(model, tmp_path / "classes.npz")
        >>> inputs.shape, labels.tolist(), names
        ((3, 3), [0, 0, 1], ('cat', 'dog'))
    """
    bank = read_pool(model, path)
    if model.way is not None and len(bank.class_names) > model.way:
        raise UserError(
            f"'{path}' has {len(bank.class_names)} classes, and the model tells {model.way} apart: leave out "
            f"{len(bank.class_names) - model.way}, or train one for any number with --config.learner.head=prototypes"
        )
    labels = np.repeat(np.arange(len(bank.class_names), dtype=np.int32), np.diff(bank.offsets))
    return bank.take(np.arange(len(bank))), labels, bank.class_names


def read_pool(model: DeployedModel, path: Path) -> ArrayBank:
    """All labelled arrays as one bank, on the model's scale.

    Raises:
        UserError: they cannot be read, or are not what the model takes.

    Example:
        >>> read_pool(None, tmp_path / "none.npz")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: ...none.npz: no such file or folder; expected a .npz file, ...
    """
    bank = load_array_pool(path)
    _check(bank.examples, model, path)
    return bank.with_inputs(model.inputs)


def read_queries(
    model: DeployedModel, path: Path, known: Sequence[str] | None = None, classes: Sequence[str] | None = None
) -> Queries:
    """Arrays to classify, in the order of the file.

    Args:
        model: the deployed model.
        path: of a `.npy` file, or of arrays with or without labels, see `sources.arrays.load_arrays`.
        known: the classes that may be; the labels are then the truth. None for labels that do not count.
        classes: of these, those to take; None for all.

    Raises:
        UserError: they cannot be read, are not what the model takes, have no labels though `known` is given, or one
            that is not known.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.array_format import ArrayFormat
        >>> np.save(tmp_path / "queries.npy", np.zeros((2, 3)))
        >>> model = SimpleNamespace(inputs=ArrayFormat((3,), "float32"))
        >>> read_queries(model, tmp_path / "queries.npy").names
        ['inputs[0]', 'inputs[1]']
    """
    examples, truths = load_queries(path)
    _check(examples, model, path)
    if known is not None and truths is None:
        raise UserError(f"'{path}' has no labels, which --evaluate needs to know what its examples are")
    rows = [row for row in range(len(examples)) if classes is None or (truths and truths[row] in classes)]
    of = {examples.origin(row): truths[row] for row in rows} if known is not None and truths else None
    unlearned = sorted(set((of or {}).values()) - set(known or ()))
    if unlearned:
        raise UserError(f"'{path}' has class '{unlearned[0]}', which was not learned ({', '.join(known or ())})")
    names = [examples.origin(row) for row in rows]

    def read() -> Iterator[tuple[str, np.ndarray, None]]:
        following = iter(names)
        for _, part in examples.chunks(np.array(rows, np.int64)):
            for example in part:
                yield next(following), example, None

    return Queries(names, read, of)


def _check(examples: Examples, model: DeployedModel, path: Path) -> None:
    """Refuses examples that the model does not take."""
    inputs = model.inputs
    if (examples.shape, examples.dtype) != (inputs.shape, inputs.dtype):
        raise UserError(
            f"'{path}': an example is {examples.dtype} {list(examples.shape)}, and the model takes {inputs.dtype} "
            f"{list(inputs.shape)}"
        )
