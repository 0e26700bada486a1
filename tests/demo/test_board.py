"""What the page asks for and is shown, as JSON."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.demo import board
from tf_mamlpp.demo.board import act, describe, is_paper_dark, show
from tf_mamlpp.demo.session import Session


@pytest.fixture
def taught(nearest_grey, sent):
    session = Session(nearest_grey(way=2, threshold=0.5))
    for index, value in enumerate((0, 255)):
        act(session, "add", {"index": index, "pictures": [sent(value)]})
    return session


def probabilities(shown):
    return [each["probability"] for each in shown["classes"]]


def test_all_of_it_is_json(taught, sent):
    for action, details in (("ask", {"picture": sent(9)}), ("save", {})):
        shown = act(taught, action, details)
        assert json.loads(json.dumps(shown)) == shown


def test_an_empty_page(nearest_grey):
    fixed, any_way = (show(Session(nearest_grey(way=way))) for way in (3, None))
    assert fixed["status"] == "Give each of the 3 classes a picture. Still without: A, B, C."
    assert any_way["status"] == "Give at least 2 classes a picture."
    for shown in (fixed, any_way):
        assert not shown["ready"] and shown["picture"] is shown["error"] is None
        assert shown["answer"]["label"] == "" and shown["answer"]["is_known"] is None
        assert set(probabilities(shown)) == {None}


def test_an_answer_stays_live(taught, sent):
    shown = act(taught, "ask", {"picture": sent(10)})
    assert shown["answer"] == {"label": "A", "chance": "85.0 %", "detail": "Known at all: 91.1 %", "is_known": True}
    assert probabilities(shown) == pytest.approx([0.85, 0.15])
    shown = act(taught, "rename", {"index": 0, "name": "black"})
    assert shown["answer"]["label"] == "black"
    act(taught, "remove", {"index": 0, "position": 0})
    shown = act(taught, "add", {"index": 0, "pictures": [sent(240)]})
    assert shown["answer"]["label"] == "None of these" and shown["picture"]
    assert act(taught, "ask", {"picture": None})["answer"]["detail"] == "Draw or drop a picture to ask."


def test_none_of_these(taught, sent):
    shown = act(taught, "ask", {"picture": sent(120)})
    detail = "Known at all: 6.6 %, below 50.0 %. Most like A: 85.0 %"
    assert shown["answer"] == {"label": "None of these", "chance": "", "detail": detail, "is_known": False}


def test_a_picture_that_becomes_an_example_is_not_asked_about_any_more(taught, sent):
    act(taught, "ask", {"picture": sent(120)})
    shown = act(taught, "add", {"index": 1, "pictures": [sent(120)], "is_asked": True})
    assert shown["picture"] is None and len(shown["classes"][1]["pictures"]) == 2


def test_pictures_are_shown_as_the_model_sees_them(taught, sent):
    [address] = show(taught)["classes"][1]["pictures"]
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert picture.size == (8, 6) and np.asarray(picture).min() == 255


def test_one_bad_file_of_several_is_named_and_the_others_are_taken(taught, sent):
    bad = {"name": "notes.txt", "content": base64.b64encode(b"notes").decode()}
    shown = act(taught, "add", {"index": 0, "pictures": [sent(1), bad, sent(2)]})
    assert shown["error"].startswith("notes.txt: cannot be read as a picture") and "\n" not in shown["error"]
    assert len(shown["classes"][0]["pictures"]) == 3


def test_refusals_are_one_line_and_lose_nothing(taught, sent, monkeypatch):
    before = act(taught, "ask", {"picture": sent(10)})["classes"]
    damaged = {"name": "learned.npz", "content": base64.b64encode(b"PK").decode()}
    for action, details, line in (
        ("rename", {"index": 0, "name": "B"}, "two classes would be called 'B'"),
        ("load", {"file": damaged}, "learned.npz' is damaged"),
        ("load", {"file": {"name": "x", "content": "%%%"}}, "x: it did not arrive whole"),
        ("add_class", {}, "exactly 2 classes"),
    ):
        shown = act(taught, action, details)
        assert line in shown["error"] and "\n" not in shown["error"]
        assert shown["classes"] == before
    monkeypatch.setattr(board, "_MOST_BYTES", 3)
    assert "it has over 0 MB" in act(taught, "ask", {"picture": sent(1)})["error"]
    with pytest.raises(KeyError):
        act(taught, "__init__", {})


def test_a_file_to_keep_and_to_load_again(taught, nearest_grey, sent):
    shown = act(taught, "save", {})
    assert shown["file"]["name"] == "learned.npz" and act(taught, "ask", {"picture": None})["file"] is None
    other = Session(nearest_grey(way=2, threshold=0.5))
    loaded = act(other, "load", {"file": shown["file"]})
    assert loaded["classes"] == shown["classes"] and loaded["status"].startswith("Learned 2 classes from 2 pictures.")
    assert not act(other, "reset", {})["ready"] and show(taught)["ready"]


def test_what_is_said_of_a_model(nearest_grey):
    fixed, any_way = (describe(nearest_grey(way, threshold), "mine") for way, threshold in ((3, None), (None, 0.5)))
    assert fixed["about"].startswith("It learns exactly 3 classes, from one or more pictures of each (8x6, grey).")
    assert "does not tell" in fixed["about"] and not fixed["any_way"]
    assert any_way["about"].startswith("It learns 2 classes or more (3 in training)")
    assert any_way["about"].endswith("It says when a picture is none of them.") and any_way["any_way"]
    assert fixed["size"] == [8, 6] and fixed["title"] == "Teach mine by hand"


@pytest.mark.parametrize(
    "mean, std, dark",
    [
        ((1.0,), (-1.0,), False),  # Omniglot: ink on paper, inverted
        ((0.5,), (0.5,), False),
        ((0.1307,), (0.3081,), True),  # MNIST: white on black
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False),
    ],
)
def test_the_colour_of_the_paper(nearest_grey, mean, std, dark):
    model = nearest_grey()
    model.inputs = dataclasses.replace(model.inputs, mean=mean, std=std)
    assert is_paper_dark(model) is dark
