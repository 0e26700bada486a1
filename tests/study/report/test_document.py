"""Documents as Markdown and as HTML."""

import base64
import html.parser

import pytest

from tf_mamlpp.study.report.document import Code, Figure, Heading, Items, Paragraph, Table, markdown, page
from tf_mamlpp.text import duration


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def blocks(tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "curve.svg").write_text("<svg/>")
    return [
        Heading("Title & more", 1),
        Paragraph("A **bold** *fine* `a < b` word."),
        Items(["one", "two"]),
        Code("run --now > log"),
        Table(["name", "a|b"], [["x", "1"], ["y", "2"]]),
        Figure(folder, "curve", 'Its "caption".'),
    ]


def test_markdown(blocks):
    assert markdown(blocks) == (
        "# Title & more\n\nA **bold** *fine* `a < b` word.\n\n- one\n- two\n\n```bash\nrun --now > log\n```\n\n"
        "| name | a\\|b |\n|---|---|\n| x | 1 |\n| y | 2 |\n\n"
        '![Its "caption".](figures/curve.png)\n\n*Its "caption".*\n'
    )


class Parser(html.parser.HTMLParser):
    """The tags that are open at the end, all tags, and the attributes of images."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.images, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_page_is_whole_and_needs_no_other_file(blocks):
    text = page("T & t", blocks)
    parser = Parser()
    parser.feed(text)
    assert parser.open == []
    assert {"h1", "p", "b", "i", "code", "ul", "li", "pre", "table", "th", "td", "figure"} <= set(parser.tags)
    (image,) = parser.images
    assert image["alt"] == 'Its "caption".'
    assert base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")) == b"<svg/>"
    assert "http" not in text
    for part in ("T & t", "Title & more", "a < b", "run --now > log", "a|b"):
        assert part in parser.text
