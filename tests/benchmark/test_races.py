import importlib.util

import pytest

from tf_mamlpp.benchmark import races
from tf_mamlpp.benchmark.cases import CASES, choose_cases
from tf_mamlpp.errors import UserError


def test_workers_take_turns():
    calls = []

    def worker(name):
        def run(count):
            calls.append((name, count))
            return [float(len(calls))] * count, 10.0 * len(calls)

        return run

    found = races.take_turns({"a": worker("a"), "b": worker("b")}, updates=4, block=2, pause=0)
    assert calls == [("a", 2), ("b", 2), ("a", 2), ("b", 2)]
    assert found == {"a": ([1.0, 1.0, 3.0, 3.0], 30.0), "b": ([2.0, 2.0, 4.0, 4.0], 40.0)}


class FakeWorker:
    """Takes for an update what its peer and layout say, and remembers whether it was closed."""

    made: list["FakeWorker"] = []
    speed = {("ours", 1): 1.0, ("pytorch", 1): 4.0, ("pytorch", 2): 3.0, ("higher", 1): 5.0, ("higher", 2): 6.0}

    def __init__(self, make, contestant, case, at_once=1):
        self.contestant, self.case, self.at_once, self.closed = contestant, case, at_once, 0
        self.made.append(self)

    def __call__(self, count):
        assert not self.closed
        return [self.speed[self.contestant, self.at_once]] * count, 100.0 * self.at_once

    def close(self):
        self.closed += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_peers_run_in_their_faster_layout(monkeypatch):
    monkeypatch.setattr(FakeWorker, "made", [])
    monkeypatch.setattr(races, "Worker", FakeWorker)
    monkeypatch.setattr(races, "cores", lambda: 2)
    monkeypatch.setattr(races.time, "sleep", lambda seconds: None)
    found = races.race(CASES["omniglot_5way_1shot"], ["pytorch", "higher"], updates=3)
    assert found == {
        "ours": races.RaceResult(1.0, 1.0, 100.0, "2 tasks at once"),
        "pytorch": races.RaceResult(3.0, 3.0, 200.0, "2 tasks at once"),
        "higher": races.RaceResult(5.0, 5.0, 100.0, "2 threads"),
    }
    assert all(worker.closed for worker in FakeWorker.made)
    assert {worker.case.method for worker in FakeWorker.made} == {"maml"}


def test_refuses_peers_that_cannot_run(monkeypatch):
    with pytest.raises(UserError, match="unknown peer 'jax'; peers are pytorch, learn2learn, higher"):
        races.check_peers(["jax"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="peer 'higher' is not installed"):
        races.check_peers(["higher"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    races.check_peers(["higher"])


def test_cases_without_a_network_of_the_peers_are_left_out():
    cases, left_out = races.cases_for_peers(CASES)
    assert left_out == ["resnet12"]
    assert cases == {name: case for name, case in CASES.items() if name != "resnet12"}
    assert races.cases_for_peers(choose_cases(["omniglot_5way_1shot"])) == (choose_cases(["omniglot_5way_1shot"]), [])
    with pytest.raises(UserError, match="'resnet12' cannot be compared: peers have conv4 alone"):
        races.cases_for_peers(choose_cases(["resnet12"]))
