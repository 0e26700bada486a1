"""bin/demo.py: what it refuses before it loads a model.  The page itself: tests/demo."""

import socket

import pytest


@pytest.fixture
def taken():
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use(command, one_line, taken):
    line = one_line(command("demo", "--model=omniglot", f"--port={taken}", "--nobrowser"))
    assert line == f"error: port {taken} cannot be used (Address already in use): choose another with --port"


def test_what_is_no_model(command, one_line, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"")
    for model in (tmp_path / "model.tflite", "omniglott"):
        line = one_line(command("demo", f"--model={model}", "--nobrowser"))
        assert line.startswith(f"error: model '{model}' is no folder: give that of a SavedModel")
