"""The ablation's methods by name.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import MODIFICATIONS


def name_of(modifications: frozenset[str]) -> str:
    """The one name of a set of modifications.

    Args:
        modifications: any of the six of `MODIFICATIONS`.

    Returns:
        `maml+a+b` for up to three of them; `maml++-a` for more, with those that are left out.

    Example:
        >>> name_of(frozenset({"learned_rates"}))
        'maml+learned_rates'
        >>> name_of(frozenset(MODIFICATIONS) - {"learned_rates"})
        'maml++-learned_rates'
    """
    if len(modifications) <= len(MODIFICATIONS) // 2:
        return "+".join(["maml", *(m for m in MODIFICATIONS if m in modifications)])
    return "-".join(["maml++", *(m for m in MODIFICATIONS if m not in modifications)])


def _parse(name: str) -> tuple[str, list[str]]:
    """The method at the start of a name, `maml` or `maml++`, and the modifications added to it or taken from it."""
    base, sign = ("maml++", "-") if name.startswith("maml++") else ("maml", "+")
    modifications = name.removeprefix(base).split(sign)[1:]
    if name != sign.join([base, *modifications]) or set(modifications) - set(MODIFICATIONS):
        raise UserError(
            f"unknown method '{name}': it is maml or maml++, maml+NAME+..., maml++-NAME-..., or one of the groups "
            f"{', '.join(GROUPS)}; a NAME is one of {', '.join(MODIFICATIONS)}"
        )
    return base, modifications


def modifications_of(name: str) -> frozenset[str]:
    """The modifications that a method has: the inverse of `name_of`.

    Args:
        name: with its modifications in any order and number.

    Raises:
        UserError: an unknown name.

    Example:
        >>> sorted(modifications_of("maml+multi_step_loss+learned_rates"))
        ['learned_rates', 'multi_step_loss']
        >>> len(modifications_of("maml++-learned_rates"))
        5
    """
    base, modifications = _parse(name)
    return frozenset(MODIFICATIONS) - set(modifications) if base == "maml++" else frozenset(modifications)


_BATCH_NORM = frozenset({"per_step_statistics", "per_step_weights"})


_ALONE = [*(name_of(frozenset({m})) for m in MODIFICATIONS), name_of(_BATCH_NORM)]


_WITHOUT = [name_of(frozenset(MODIFICATIONS) - {m}) for m in MODIFICATIONS]


GROUPS = {
    "core": ["maml", "maml++"],
    "alone": ["maml", *_ALONE],
    "without": ["maml++", *_WITHOUT],
    "all": ["maml", *_ALONE, "maml++", *_WITHOUT],
}
"""What one word of `--methods` stands for.

`core`: MAML and MAML++.  `alone`: MAML, with each modification alone and with both of batch norm.  `without`: MAML++,
and without each modification.  `all`: all of those.
"""


def parse_methods(names: Sequence[str]) -> list[str]:
    """Names and groups as names of methods, each once, as `name_of` writes them.

    Raises:
        UserError: an unknown name.

    Example:
        >>> parse_methods(["core", "maml+learned_rates+multi_step_loss", "maml"])
        ['maml', 'maml++', 'maml+multi_step_loss+learned_rates']
    """
    methods = [name_of(modifications_of(method)) for name in names for method in GROUPS.get(name, [name])]
    return list(dict.fromkeys(methods))


def words_of(modification: str) -> str:
    """A modification in words.

    Example:
        >>> words_of("multi_step_loss")
        'multi-step loss'
    """
    return (
        modification.replace("multi_step", "multi-step")
        .replace("per_step", "per-step")
        .replace("derivative_order", "derivative-order")
        .replace("_", " ")
    )


def title_of(method: str) -> str:
    """A method in words.

    Raises:
        UserError: an unknown name.

    Example:
        >>> title_of("maml++-learned_rates")
        'MAML++ without learned rates'
        >>> title_of("maml+multi_step_loss+learned_rates")
        'MAML + multi-step loss + learned rates'
    """
    base, modifications = _parse(method)
    words = [words_of(modification) for modification in modifications]
    if base == "maml++" and words:
        return f"MAML++ without {', '.join(words)}"
    return " + ".join([base.upper(), *words])
