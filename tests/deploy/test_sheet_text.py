"""Names in any script: DejaVu, a font of the system, or the character's number; never a box."""

import os

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from tf_mamlpp.deploy import sheet_text
from tf_mamlpp.deploy.sheet_text import draw_text, fitted


@pytest.fixture
def dog_font(tmp_path, monkeypatch):
    """The one other font of the machine: a full square for the Chinese dog, and a glyph for a control character."""
    square = TTGlyphPen(None)
    square.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        square.lineTo(corner)
    square.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "dog"])
    builder.setupCharacterMap({0x72AC: "dog", 7: "dog"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "dog": square.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "dog": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Dog", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "dog.ttf")
    use(monkeypatch, str(tmp_path / "missing.ttf"), str(tmp_path / "dog.ttf"))


@pytest.fixture
def no_other_font(monkeypatch):
    use(monkeypatch)


def use(monkeypatch, *files):
    monkeypatch.setattr(sheet_text, "_other_fonts", lambda: files)
    sheet_text._other_font.cache_clear()


def parts(text, **options):
    return "".join(part for part, _ in fitted(text, 14, **options))


@pytest.mark.parametrize(
    "name, written",
    [
        ("cat Ελληνικά кот", "cat Ελληνικά кот"),
        ("犬 dog", "\\u72ac dog"),
        ("\U0001f436", "\\U0001f436"),
        ("a\x07b", "a\\x07b"),
        (os.fsdecode(b"bad\xff"), "bad\\udcff"),
        ("a\n\tb", "a b"),
        ("", "?"),
        ("a\U000e0001b", "ab"),  # an invisible mark that DejaVu lacks
        ("family \U0001f468\u200d\U0001f469\ufe0f", "family \\U0001f468\u200d\\U0001f469\ufe0f"),
    ],
)
def test_what_no_font_has_is_written_by_its_number(no_other_font, name, written):
    assert parts(name) == written


def test_a_font_of_the_system_draws_what_dejavu_lacks(dog_font):
    assert [part for part, _ in fitted("a 犬犬 b", 14)] == ["a ", "犬犬", " b"]
    assert parts("a\x07") == "a\\x07"
    sheet = Image.new("L", (100, 40), 255)
    draw_text(ImageDraw.Draw(sheet), (10, 10), "犬", "black", 20)
    rows, columns = np.nonzero(np.asarray(sheet) < 128)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 20) and len(rows) == 400
    assert columns.min() == 10 and rows.max() <= 10 + 20  # on DejaVu's baseline


@pytest.mark.parametrize("anchor, left", [("la", 50), ("lm", 50), ("ra", 10), ("rm", 10)])
def test_anchors_count_all_parts(dog_font, anchor, left):
    sheet = Image.new("RGB", (120, 40), "white")
    draw_text(ImageDraw.Draw(sheet), (50, 15), "犬犬", "black", 20, anchor=anchor)
    assert np.nonzero(np.asarray(sheet)[..., 0] < 128)[1].min() == left


def test_what_is_too_long_is_cut_off_at_either_end(no_other_font):
    assert parts("abcdefghijklmnop", room=60).startswith("abc") and parts("abcdefghijklmnop", room=60).endswith("…")
    end = parts("folder/abcdefghijklmnop.png", room=60, keep_end=True)
    assert end.startswith("…") and end.endswith("p.png")


def test_fonts_that_show_other_things_than_they_say_are_not_used():
    assert not any(
        "LastResort" in file or os.path.basename(file).startswith("cm") for file in sheet_text._other_fonts()
    )
