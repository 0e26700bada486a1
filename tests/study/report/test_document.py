"""Documents as Markdown and as HTML."""

import base64
import html.parser

import pytest

from tf_mamlpp.study.report.document import Code, Figure, Heading, Items, Paragraph, Table, as_html, as_markdown


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


def test_as_markdown(blocks):
    assert as_markdown(blocks) == (
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
    text = as_html("T & t", blocks)
    parser = Parser()
    parser.feed(text)
    assert parser.open == []
    assert {"h1", "p", "strong", "em", "code", "ul", "li", "pre", "table", "th", "td", "figure"} <= set(parser.tags)
    (image,) = parser.images
    assert image["alt"] == 'Its "caption".'
    assert base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")) == b"<svg/>"
    assert "http" not in text
    for part in ("T & t", "Title & more", "a < b", "run --now > log", "a|b"):
        assert part in parser.text


def test_what_users_write_is_shown_as_it_is(tmp_path):
    written = (
        "<script>alert(1)</script> <b>x</b> ![p](http://a/p.png) [l](javascript:a) <http://a> [l]: http://a & x_y_z"
    )
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "curve.svg").write_text("<svg/>")
    blocks = [
        Heading(written),
        Paragraph(written),
        Items([written]),
        Code(written),
        Table([written], [[written]]),
        Figure(folder, "curve", f'" onload="{written}'),
    ]
    parser = Parser()
    parser.feed(as_html(written, blocks))
    assert parser.open == []
    assert not {"script", "b", "a"} & set(parser.tags)
    assert [image.keys() for image in parser.images] == [{"alt", "src"}]
    assert parser.text.count(written) == 8  # and the page's title


def test_a_reference_is_a_text(tmp_path):
    assert "<p>[x]: http://a</p>" in as_html("", [Paragraph("[x]: http://a")])
