"""Every switch of a learner, and the methods by name as settings of them.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mamlpp.errors import UserError

QUERY_STATISTICS = ("batch", "running", "support")


MODIFICATIONS = (
    "multi_step_loss",
    "derivative_order_annealing",
    "per_step_statistics",
    "per_step_weights",
    "learned_rates",
    "cosine_annealing",
)
"""The six of "How to train your MAML", section 4: MSL, DA, BNRS, BNWB, LSLR, CA."""


_MAML: dict[str, Any] = {
    **dict.fromkeys(MODIFICATIONS, False),
    "elementwise_rates": False,
    "first_order": False,
    "adapted": "all",
    "shared_head": False,
}


INNER_LOOP = (*(k for k in _MAML if k != "cosine_annealing"), "label_permutations", "batched_tasks", "rematerialise")
"""Settings that have no use where there is no inner loop."""


class _Presets(dict[str, dict[str, Any]]):
    def __missing__(self, name: str) -> dict[str, Any]:
        raise UserError(f"unknown method '{name}': it is one of {', '.join(self)}")


presets: Mapping[str, dict[str, Any]] = _Presets(
    {
        "maml": _MAML,
        "maml++": {**_MAML, **dict.fromkeys(MODIFICATIONS, True)},
        "fomaml": {**_MAML, "first_order": True},
        "anil": {**_MAML, "adapted": "head"},
        "boil": {**_MAML, "adapted": "body"},
        "meta-sgd": {**_MAML, "elementwise_rates": True},
        "protonet": {**_MAML, "prototypes": True},
    }
)
"""Settings of a config's `learner` for each method, and keyword arguments of `MetaLearner`; but `protonet` is for
configs alone: in Python it is a class, `PrototypicalNetworks`, and takes none of these switches."""


def method_name(switches: Mapping[str, Any]) -> str:
    """The preset that these switches are, or the nearest one and what differs: `maml++ -learned_rates`."""

    def differences(name: str) -> list[str]:
        preset, own = ({"prototypes": False, **tree} for tree in (presets[name], switches))
        return [
            (f"{'+' if own[k] else '-'}{k}" if isinstance(own[k], bool) else f"{k}={own[k]}")
            for k in ("prototypes", *_MAML)
            if own[k] != preset[k]
        ]

    nearest = min(presets, key=lambda name: len(differences(name)))
    return " ".join([nearest, *differences(nearest)])
