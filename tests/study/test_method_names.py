"""Methods by name."""

import itertools

import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.study.method_names import GROUPS, modifications_of, name_of, parse_methods, title_of


def test_every_set_has_one_name():
    subsets = [frozenset(c) for n in range(7) for c in itertools.combinations(MODIFICATIONS, n)]
    names = [name_of(s) for s in subsets]
    assert len(set(names)) == 64
    assert [modifications_of(n) for n in names] == subsets
    assert (names[0], names[-1]) == ("maml", "maml++")


def test_order_and_length_are_free():
    assert parse_methods(["maml+learned_rates+multi_step_loss"]) == ["maml+multi_step_loss+learned_rates"]
    assert parse_methods(["maml+" + "+".join(MODIFICATIONS), "maml++"]) == ["maml++"]


@pytest.mark.parametrize(
    "name", ["mamal", "maml+", "maml+x", "maml++x", "maml++-x", "maml-learned_rates", "fomaml", ""]
)
def test_unknown_names(name):
    with pytest.raises(UserError, match=f"unknown method '{name.replace('+', '.')}'"):
        parse_methods([name])


def test_groups():
    assert len(GROUPS["all"]) == 1 + 7 + 6 + 1 == len(set(GROUPS["all"]))
    assert set(GROUPS["core"]) | set(GROUPS["alone"]) | set(GROUPS["without"]) == set(GROUPS["all"])
    assert "maml+per_step_statistics+per_step_weights" in GROUPS["alone"]
    assert parse_methods(["core", "maml", "without"])[:3] == ["maml", "maml++", "maml++-multi_step_loss"]
    assert all(name == name_of(modifications_of(name)) for name in GROUPS["all"])


@pytest.mark.parametrize(
    ("method", "title"),
    [
        ("maml", "MAML"),
        ("maml+multi_step_loss+learned_rates", "MAML + multi-step loss + learned rates"),
        ("maml++", "MAML++"),
        ("maml++-learned_rates-cosine_annealing", "MAML++ without learned rates, cosine annealing"),
    ],
)
def test_titles(method, title):
    assert title_of(method) == title
