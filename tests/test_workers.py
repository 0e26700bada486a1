"""What workers check and tell each other.  Two real ones: tests/cli/test_multi_worker.py."""

import json
import signal

import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tf_mamlpp.errors import UserError
from tf_mamlpp.workers import Workers, check_environment, join

TWO = ["10.0.0.1:2222", "10.0.0.2:2222"]


def description(kind="worker", index=0, **cluster):
    return json.dumps({"cluster": cluster or {"worker": TWO}, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    "text",
    [
        description(),
        description(index=1),
        description("chief", chief=["a:1"], worker=["b:1"]),
        description(index="1", worker=["[::1]:1", "host.example:65535"]),
    ],
)
def test_descriptions_of_workers(text):
    described = json.loads(text)
    own = described["cluster"][described["task"]["type"]][int(described["task"]["index"])]
    others = [a for addresses in described["cluster"].values() for a in addresses if a != own]
    assert check_environment(text) == others


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs the environment variable TF_CONFIG, such as .*10.0.0.2:2222"),
        ("", "needs the environment variable"),
        ("{", "is not what it should be"),
        ("[]", "is not what it should be"),
        ('{"cluster": {}}', "is not what it should be .'task'"),
        (description(index="first"), "whole number as index, not 'worker' 'first'"),
        (description(worker="a:1"), "not a list of addresses"),
        (description(worker=["a"]), "HOST:PORT of its own, not .'a'"),
        (description(worker=["a:1", 7]), "HOST:PORT of its own, not .7"),
        (description(worker=["a:1", "a:1"]), "HOST:PORT of its own"),
        (description(index=2), "task is 'worker 2', which"),
        (description(index=-1), "task is 'worker -1', which"),
        (description("chief"), "task is 'chief 0', which"),
        (description("two\nlines"), "task is 'two.*lines 0', which"),
        (description([]), "whole number as index, not .. 0"),
        (description(index=0.7), "whole number as index, not 'worker' 0.7"),
        (description(index=True), "whole number as index, not 'worker' True"),
        (description(index=float("inf")), "whole number as index, not 'worker' inf"),
        (description(index=None), "whole number as index, not 'worker' None"),
        (description(index="9" * 5000), "whole number as index, not 'worker' '999.*999'"),
        ("[" * 100_000, "is not what it should be .*recursion"),
        (description(worker=["a:1", "b:99999"]), "HOST:PORT of its own, not .'b:99999'"),
        (description(worker=["a:0"]), "HOST:PORT of its own, not .'a:0'"),
        (description("ps", ps=["a:1"], worker=["b:1"]), "not .'ps'"),
        (description(chief=["a:1", "b:1"], worker=["c:1"]), "at most one chief"),
    ],
)
def test_mistakes_in_the_description(text, message):
    with pytest.raises(UserError, match=message) as found:
        check_environment(text)
    assert "\n" not in str(found.value)


@pytest.mark.slow
def test_any_description_is_understood_or_refused_in_one_line(fuzz):
    leaf = st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.text() | st.sampled_from(["a:1", "worker"])
    tree = st.recursive(leaf, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(), t, max_size=3))
    job = st.lists(st.sampled_from(["a:1", "b:2", "b:70000"]) | tree, max_size=3) | tree
    cluster = st.fixed_dictionaries({}, optional={"worker": job, "chief": job, "ps": job}) | tree
    task = st.fixed_dictionaries({"type": st.sampled_from(["worker", "chief"]) | tree, "index": tree}) | tree
    described = st.fixed_dictionaries({"cluster": cluster, "task": task}) | tree

    def check(text):
        try:
            others = check_environment(text)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(address, str) for address in others)

    fuzz(check, 300, text=described.map(json.dumps) | st.text())


def test_joining_without_a_description(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="TF_CONFIG"):
        join()


@pytest.mark.parametrize("count", [1, 2, 20])
def test_says_whom_it_waits_for(monkeypatch, capsys, count):
    addresses = [f"a:{port}" for port in range(1, count + 1)]
    monkeypatch.setenv("TF_CONFIG", description(worker=addresses))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "joined")
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert join() == "joined"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert capsys.readouterr().out == {
        1: "",
        2: "waiting for the other 1 of 2 workers (a:2)\n",
        20: "waiting for the other 19 of 20 workers (a:2, a:3, a:4, a:5, a:6, a:7, a:8, a:9, ...)\n",
    }.get(count)


def test_a_process_that_used_tensorflow_cannot_join(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", description(worker=["127.0.0.1:9"]))
    assert int(tf.constant(1)) == 1
    with pytest.raises(UserError, match="has not used TensorFlow yet"):
        join()


def test_one_process_is_the_chief_and_agrees_with_itself():
    workers = Workers(tf.distribute.get_strategy())
    assert workers.alone and workers.chief
    assert workers.any(True) and not workers.any(False)
    assert workers.share({"a": [1, None]}) == {"a": [1, None]}
    variable = tf.Variable([1.0, 2.0])
    workers.share_variables([variable])
    assert variable.numpy().tolist() == [1.0, 2.0]
    with pytest.raises(tf.errors.UnavailableError), workers.explain_losses():
        raise tf.errors.UnavailableError(None, None, "something else")
