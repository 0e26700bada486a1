"""The ablation's methods by name.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import MODIFICATIONS


def name_of(modifications: frozenset[str]) -> str:
    """`maml+a+b` for up to three of the six modifications, `maml++-a` for what is missing of more."""
    if len(modifications) <= len(MODIFICATIONS) // 2:
        return "+".join(["maml", *(m for m in MODIFICATIONS if m in modifications)])
    return "-".join(["maml++", *(m for m in MODIFICATIONS if m not in modifications)])


def modifications_of(name: str) -> frozenset[str]:
    """The inverse of `name_of`, for any order and number of modifications.

    Raises:
        UserError: an unknown name.
    """
    removed = name.startswith("maml++")
    base, sign = ("maml++", "-") if removed else ("maml", "+")
    rest = name.removeprefix(base)
    parts = rest.split(sign)[1:]
    if not name.startswith(base) or rest != "".join(sign + part for part in parts) or set(parts) - set(MODIFICATIONS):
        raise UserError(
            f"unknown method '{name}': it is maml or maml++, maml+NAME+..., maml++-NAME-..., or one of the groups "
            f"{', '.join(GROUPS)}; a NAME is one of {', '.join(MODIFICATIONS)}"
        )
    return frozenset(MODIFICATIONS) - set(parts) if removed else frozenset(parts)


_BATCH_NORM = frozenset({"per_step_statistics", "per_step_weights"})


_ALONE = [*(name_of(frozenset({m})) for m in MODIFICATIONS), name_of(_BATCH_NORM)]


_WITHOUT = [name_of(frozenset(MODIFICATIONS) - {m}) for m in MODIFICATIONS]


GROUPS = {
    "core": ["maml", "maml++"],
    "alone": ["maml", *_ALONE],
    "without": ["maml++", *_WITHOUT],
    "all": ["maml", *_ALONE, "maml++", *_WITHOUT],
}
"""`--methods` by one word: both ends; MAML, and with each modification alone or both of batch norm; MAML++, and without
each; all of those."""


def parse_methods(names: Sequence[str]) -> list[str]:
    """Names and groups as the names of methods, each once, as `name_of` writes them."""
    found = [name_of(modifications_of(m)) for name in names for m in GROUPS.get(name, [name])]
    return list(dict.fromkeys(found))


def words_of(modification: str) -> str:
    """`multi_step_loss` as `multi-step loss`."""
    return (
        modification.replace("multi_step", "multi-step")
        .replace("per_step", "per-step")
        .replace("derivative_order", "derivative-order")
        .replace("_", " ")
    )


def title_of(method: str) -> str:
    """`maml++-learned_rates` as `MAML++ without learned rates`."""
    base, sign = ("maml++", "-") if method.startswith("maml++") else ("maml", "+")
    parts = [words_of(part) for part in method.removeprefix(base).split(sign)[1:]]
    if sign == "-" and parts:
        return f"MAML++ without {', '.join(parts)}"
    return " + ".join([base.upper(), *parts])
