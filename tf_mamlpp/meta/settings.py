"""Every switch of a learner, and the methods by name as settings of them.  Imports no TensorFlow."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tf_mamlpp.checks import check_choice, check_fields, check_range, check_type
from tf_mamlpp.errors import UserError

QUERY_STATISTICS = ("batch", "running", "support")
"""What batch norm may normalise query pictures with."""

HEADS = ("learned", "shared", "prototypes")
"""What each class's part of the last layer starts from."""

MODIFICATIONS = (
    "multi_step_loss",
    "derivative_order_annealing",
    "per_step_statistics",
    "per_step_weights",
    "learned_rates",
    "cosine_annealing",
)
"""The six of "How to train your MAML", section 4: MSL, DA, BNRS, BNWB, LSLR, CA."""


@dataclass(frozen=True)
class Learner:
    """The settings of `MetaLearner` and, with `prototypes`, of `PrototypicalNetworks`; the defaults are plain MAML.

    It is the section `learner` of a config, and what the keyword arguments of the two classes become.

    Args:
        inner_steps: N, how many gradient steps a task's support set gets.
        inner_rate: α, or the starting value of the learned rates.
        multi_step_loss: MSL; the query loss after every step counts, with weights that anneal to the last.
        derivative_order_annealing: DA; first-order gradients before `second_order_from_epoch`.
        per_step_statistics: BNRS; moving statistics for each inner step.
        per_step_weights: BNWB; batch-norm weights for each inner step.
        learned_rates: LSLR; a learned rate for each adapted tensor and step.
        elementwise_rates: a learned rate for each weight instead of each tensor; the same in all steps (Meta-SGD), or
            with `learned_rates` one for each step too.
        cosine_annealing: CA; `fit` anneals the optimizer's rate to `minimum_rate`.
        first_order: never take second derivatives (first-order MAML).
        adapted: which weights the inner loop changes: `all` but batch norm's, `head` (the last layer that has
            weights: ANIL), `body` (all but the head: BOIL), or a regular expression that is searched for in a
            variable's path (`conv4/conv0/kernel`).  In Python also a predicate on the path.
        head: what the last layer's vector of a class starts from: `learned`, a vector for each class; `shared`, one
            learned vector for all of them (UNICORN-MAML); `prototypes`, the mean features p of the class's support
            pictures, w = 2p and b = -|p|² (Proto-MAML), through which meta-gradients flow.  With the latter two a task
            may have any number of classes, if the model ends in a dense layer.
        label_permutations: `curves` and `tf_mamlpp.evaluate` (not the validation of `fit`, nor Keras's `evaluate`)
            adapt to this many rotations of the classes' order and average their probabilities; 1 to `way`.  They take
            that many times as long.
        prototypes: Prototypical Networks: no inner loop, and none of its switches.
        multi_step_loss_epochs: epochs until only the last step's query loss counts.
        second_order_from_epoch: the first epoch (0-based) of second-order gradients under annealing; the paper's 50.
        minimum_rate: the outer rate at which cosine annealing ends.
        temperature: of `prototypes` and `head=prototypes`: squared distances are divided by it before the softmax (FEAT
            takes 64 for 1 shot and 16 for 5, of features that a classifier has learned).
        query_statistics: what batch norm normalises the query set with in training: `batch` (the query
            batch's own moments), `running` (the moving statistics) or `support` (the support set's).
        evaluation_statistics: the same for evaluation; None for `query_statistics`.
        gradient_clip: each entry of the meta-gradient is clipped to ± this (paper: 10 on mini-ImageNet).
        parallel_tasks: tasks computed at once; None for the number of cores.
        batched_tasks: computes all tasks of a replica as one batch, convolutions as batched matrix products: for a GPU
            that one task is too small to fill.  The same numbers; memory grows with the tasks; slower on a CPU.  For
            training and validation only; `parallel_tasks` has no use with it.
        rematerialise: the backward pass computes each inner step again, so that memory hardly grows with
            `inner_steps`.  Exact; an update takes 1.2 to 1.7 times as long.

    Raises:
        UserError: a value of another type or out of range, or settings that contradict each other; the text
            begins with the setting's name.

    Example:
        >>> Learner(**presets["maml++"], inner_steps=3).learned_rates
        True
        >>> Learner(first_order=True, derivative_order_annealing=True)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: first_order and derivative_order_annealing contradict each other: choose one
    """

    inner_steps: int = 5
    inner_rate: float = 0.1
    multi_step_loss: bool = False
    derivative_order_annealing: bool = False
    per_step_statistics: bool = False
    per_step_weights: bool = False
    learned_rates: bool = False
    elementwise_rates: bool = False
    cosine_annealing: bool = False
    first_order: bool = False
    adapted: str | Callable[[str], bool] = "all"
    head: str = "learned"
    label_permutations: int = 1
    prototypes: bool = False
    multi_step_loss_epochs: int = 10
    second_order_from_epoch: int = 50
    minimum_rate: float = 1e-5
    temperature: float = 1.0
    query_statistics: str = "batch"
    evaluation_statistics: str | None = None
    gradient_clip: float | None = None
    parallel_tasks: int | None = None
    batched_tasks: bool = False
    rematerialise: bool = False

    def __post_init__(self) -> None:
        check_fields(self, zero=("minimum_rate", "multi_step_loss_epochs", "second_order_from_epoch"))
        check_choice("query_statistics", self.query_statistics, QUERY_STATISTICS)
        if self.evaluation_statistics is not None:
            check_choice("evaluation_statistics", self.evaluation_statistics, QUERY_STATISTICS)
        check_choice("head", self.head, HEADS)
        self._check_adapted()
        for one, other in (("first_order", "derivative_order_annealing"), ("batched_tasks", "rematerialise")):
            if getattr(self, one) and getattr(self, other):
                raise UserError(f"{one} and {other} contradict each other: choose one")
        if self.head != "learned":
            self._check_head()
        if self.prototypes:
            unused = [name for name in INNER_LOOP if getattr(self, name) != getattr(Learner, name)]
            if unused:
                raise UserError(f"prototypes has no inner loop: {unused[0]} has no use")
        elif self.temperature != Learner.temperature and self.head != "prototypes":
            raise UserError("temperature is of prototypes or head=prototypes: nothing else has distances to divide")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Learner:
        """Makes settings from keyword arguments.

        Raises:
            UserError: an unknown one, with the nearest that there is.
        """
        settings = renamed(settings)
        known = [field.name for field in fields(cls)]
        unknown = next((name for name in settings if name not in known), None)
        if unknown:
            near = difflib.get_close_matches(unknown, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"{unknown} is no setting of a learner: {meant}")
        return cls(**settings)

    def _check_adapted(self) -> None:
        if not isinstance(self.adapted, str):
            return
        if not self.adapted:
            raise UserError("adapted is empty")
        try:
            re.compile(self.adapted)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"adapted is all, head, body or a regular expression; '{self.adapted}' is none: {error}"
            ) from error

    def _check_head(self) -> None:
        if self.elementwise_rates:
            raise UserError(f"elementwise_rates and head={self.head} contradict each other: choose one")
        if self.adapted == "body":
            raise UserError(f"head={self.head} needs the inner loop to adapt the head: adapted=body does not")
        if self.label_permutations > 1:
            raise UserError(f"label_permutations has no use with head={self.head}: no order of classes matters")

    def check_way(self, way: int | None) -> None:
        """Refuses a number of classes that is none, and settings that do not go with it.

        Args:
            way: classes of a task; None for regression.

        Raises:
            UserError: naming the setting.
        """
        check_type("way", way, int | None)
        check_range("way", way)
        if way is None:
            for name, used in (
                ("prototypes", self.prototypes),
                (f"head={self.head}", self.head != "learned"),
                ("label_permutations", self.label_permutations > 1),
            ):
                if used:
                    raise UserError(f"{name} needs classes: give `way` (a regression has none)")
        if not 1 <= self.label_permutations <= (way or 1):
            raise UserError(f"label_permutations is {self.label_permutations}: it must be 1 to the way, {way}")


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as runs and files of earlier versions name them, under their names of now.

    Example:
        >>> renamed({"shared_head": True, "inner_steps": 3})
        {'inner_steps': 3, 'head': 'shared'}
    """
    given = dict(settings)
    if "shared_head" in given:
        was_shared = given.pop("shared_head")
        given.setdefault("head", "shared" if was_shared else "learned")
    return given


# --- Methods by name -------------------------------------------------------------------------------------

_MAML: dict[str, Any] = {
    **dict.fromkeys(MODIFICATIONS, False),
    "elementwise_rates": False,
    "first_order": False,
    "adapted": "all",
    "head": "learned",
}

WITHOUT_INNER_LOOP = (
    "query_statistics",
    "evaluation_statistics",
    "temperature",
    "cosine_annealing",
    "minimum_rate",
    "gradient_clip",
    "parallel_tasks",
)
"""The settings that have a use where there is no inner loop."""

INNER_LOOP = (*(k for k in _MAML if k != "cosine_annealing"), "label_permutations", "batched_tasks", "rematerialise")
"""Switches that have no use where there is no inner loop.  Of the rest, configs set some whatever the method."""


class _Presets(dict[str, dict[str, Any]]):
    def __missing__(self, name: str) -> dict[str, Any]:
        if name == "protonet":
            raise UserError("protonet is no setting of MetaLearner: use PrototypicalNetworks; a config takes methods")
        raise UserError(f"unknown method '{name}': it is one of {', '.join(self)}")


presets: Mapping[str, dict[str, Any]] = _Presets(
    {
        "maml": _MAML,
        "maml++": {**_MAML, **dict.fromkeys(MODIFICATIONS, True)},
        "fomaml": {**_MAML, "first_order": True},
        "anil": {**_MAML, "adapted": "head"},
        "boil": {**_MAML, "adapted": "body"},
        "meta-sgd": {**_MAML, "elementwise_rates": True},
    }
)
"""Keyword arguments of `MetaLearner` for each of its methods."""

methods: Mapping[str, dict[str, Any]] = _Presets({**presets, "protonet": {**_MAML, "prototypes": True}})
"""Settings of a config's `learner` for each method."""


def method_name(switches: Mapping[str, Any]) -> str:
    """The preset that these switches are, or the nearest one and what differs.

    Args:
        switches: fields of `Learner`; others than the presets' are passed over.

    Example:
        >>> method_name({**presets["maml++"], "prototypes": False, "learned_rates": False})
        'maml++ -learned_rates'
    """

    def differences(name: str) -> list[str]:
        preset, given = ({"prototypes": False, **tree} for tree in (methods[name], switches))
        return [
            (f"{'+' if given[k] else '-'}{k}" if isinstance(given[k], bool) else f"{k}={given[k]}")
            for k in ("prototypes", *_MAML)
            if given[k] != preset[k]
        ]

    nearest = min(methods, key=lambda name: len(differences(name)))
    return " ".join([nearest, *differences(nearest)])
