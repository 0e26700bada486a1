"""What workers check and tell each other.  Two real ones: tests/cli/test_multi_worker.py."""

import json

import pytest
import tensorflow as tf

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
    check_environment(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs the environment variable TF_CONFIG, such as .*10.0.0.2:2222"),
        ("", "needs the environment variable"),
        ("{", "is not what it should be"),
        ("[]", "is not what it should be"),
        ('{"cluster": {}}', "is not what it should be .'task'"),
        (description(index="first"), "is not what it should be .*first"),
        (description(worker="a:1"), "not a list of addresses"),
        (description(worker=["a"]), "HOST:PORT of its own, not .'a'"),
        (description(worker=["a:1", 7]), "HOST:PORT of its own, not .7"),
        (description(worker=["a:1", "a:1"]), "HOST:PORT of its own"),
        (description(index=2), "task is worker 2, which"),
        (description(index=-1), "task is worker -1, which"),
        (description("chief"), "task is chief 0, which"),
        (description("ps", ps=["a:1"], worker=["b:1"]), "not .'ps'"),
        (description(chief=["a:1", "b:1"], worker=["c:1"]), "at most one chief"),
    ],
)
def test_mistakes_in_the_description(text, message):
    with pytest.raises(UserError, match=message) as found:
        check_environment(text)
    assert "\n" not in str(found.value)


def test_joining_without_a_description(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="TF_CONFIG"):
        join()


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
    with pytest.raises(tf.errors.UnavailableError), workers.losses_told():
        raise tf.errors.UnavailableError(None, None, "something else")
