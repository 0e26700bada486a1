"""The methods' names."""

import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import MODIFICATIONS, Learner, method_name, methods


@pytest.mark.parametrize("name", methods)
def test_a_preset_is_called_by_its_name(name):
    assert method_name(methods[name]) == name


def test_what_the_presets_switch():
    on = {name: [k for k in MODIFICATIONS if switches[k]] for name, switches in methods.items()}
    assert on.pop("maml++") == list(MODIFICATIONS)
    assert set(on) == {"maml", "fomaml", "anil", "boil", "meta-sgd", "protonet"} and not any(on.values())
    assert len(MODIFICATIONS) == 6
    assert [name for name, switches in methods.items() if switches["first_order"]] == ["fomaml"]
    assert {n: s["adapted"] for n, s in methods.items() if s["adapted"] != "all"} == {"anil": "head", "boil": "body"}
    assert [name for name, switches in methods.items() if switches["elementwise_rates"]] == ["meta-sgd"]
    assert [name for name, switches in methods.items() if switches.get("prototypes")] == ["protonet"]


@pytest.mark.parametrize("modification", MODIFICATIONS)
def test_another_method_is_called_by_what_differs(modification):
    assert method_name({**methods["maml++"], modification: False}) == f"maml++ -{modification}"
    assert method_name({**methods["maml"], modification: True}) == f"maml +{modification}"


def test_switches_that_no_preset_has():
    assert method_name({**methods["maml++"], "head": "shared"}) == "maml++ head=shared"
    assert method_name({**methods["maml"], "adapted": "conv3|dense"}) == "maml adapted=conv3|dense"
    assert method_name({**methods["protonet"], "cosine_annealing": True}) == "protonet +cosine_annealing"


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match=r"unknown method 'mamlpp': it is one of maml, maml\+\+, fomaml, anil"):
        methods["mamlpp"]


def test_other_settings_do_not_name_a_method():
    assert method_name({**methods["maml"], "inner_steps": 3}) == "maml"
    assert method_name({**methods["fomaml"], "adapted": "head"}) == "fomaml adapted=head"


def test_a_temperature_without_prototypes_is_refused():
    assert Learner(prototypes=True, temperature=64).temperature == 64.0
    assert Learner(head="prototypes", temperature=64).temperature == 64.0
    with pytest.raises(
        UserError, match="temperature is of prototypes or head=prototypes: nothing else has distances to"
    ):
        Learner(temperature=64)
