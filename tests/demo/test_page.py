"""The page as it is served: to this machine alone, each visit for itself, without files."""

import json
import socket
import urllib.error
import urllib.request

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed: pip install -e '.[demo]'")

from tf_mamlpp.demo.page import build, launch  # noqa: E402


@pytest.fixture(scope="module")
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(free_port, nearest_grey, tmp_path_factory):
    """The page of a model in an environment that asks for all that it must not do: its address, and the folder of
    Gradio's files."""
    files = tmp_path_factory.mktemp("gradio")
    unwanted = {"SERVER_NAME": "0.0.0.0", "SHARE": "True", "SSR_MODE": "True", "TEMP_DIR": str(files)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in unwanted.items():
            patch.setenv(f"GRADIO_{name}", value)
        page = build(nearest_grey(way=2), "mine")
        yield launch(page, free_port), files
        page.close()


@pytest.fixture
def visit(served):
    """Asks as the page of one visit does: visit("one", "add", index=0, pictures=[...])."""
    turns = {}

    def ask(name, action, session=None, /, **details):
        event = {"action": action, "details": details, "turn": turns.get(name, 0)}
        body = {"data": [None], "event_data": event, "fn_index": 0, "session_hash": session or name}
        request = urllib.request.Request(served[0] + "gradio_api/run/predict", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        [_, shown] = json.loads(urllib.request.urlopen(request).read())["data"]
        turns[name] = shown["turn"]
        return shown

    return ask


def test_each_visit_has_its_own(visit, sent, served):
    for index, value in enumerate((0, 255)):
        visit("one", "add", index=index, pictures=[sent(value)])
    mine, other = visit("one", "ask", picture=sent(250)), visit("other", "rename", index=0, name="mine")
    assert mine["answer"]["label"] == "B" and mine["error"] is None
    assert not any(each["pictures"] for each in other["classes"]) and other["picture"] is None
    assert visit("one", "ask", picture=None)["classes"][0]["name"] == "A"
    assert not any(served[1].rglob("*"))


def test_a_page_that_the_server_has_forgotten_is_told(visit, sent):
    visit("one", "add_class")
    assert visit("one", "add_class")["turn"] == 2
    shown = visit("one", "add", "after a restart", index=0, pictures=[sent(0)])
    assert "begun anew" in shown["error"] and shown["classes"][0]["pictures"]


def test_it_listens_on_this_machine_alone(served, free_port):
    assert served[0] == f"http://127.0.0.1:{free_port}/"
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", free_port))


def test_it_takes_no_files(served):
    part = 'Content-Disposition: form-data; name="files"; filename="a.txt"'
    body = f"--x\r\n{part}\r\n\r\nhello\r\n--x--\r\n"
    request = urllib.request.Request(served[0] + "gradio_api/upload", body.encode())
    request.add_header("Content-Type", "multipart/form-data; boundary=x")
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(request)
    assert not any(file.is_file() for file in served[1].rglob("*"))
