"""Text on a contact sheet: names in any script, with fonts of the system where DejaVu has no glyphs."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont

_Run = tuple[str, ImageFont.FreeTypeFont]

# Fonts of matplotlib that claim characters which they do not show as such.
_WRONG_GLYPHS = ("Last Resort", "STIXNonUnicode", "STIXSize", "cm")


def draw_text(
    draw: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    colour: str,
    size: int,
    *,
    bold: bool = False,
    room: float | None = None,
    keep_end: bool = False,
    anchor: str = "la",
) -> None:
    """Draws one line of text.

    A character that DejaVu lacks is drawn with another font of this machine; one that no font has is written as in
    Python, such as `\\u72ac`.

    Args:
        draw: of the sheet.
        xy: the anchor's place.
        text: any; white space of each kind becomes a space.
        colour: of the text.
        size: of the font, in pixels.
        bold: for DejaVu; other fonts are as they are.
        room: the widest that it may be: "…" stands for what is cut off; None for no limit.
        keep_end: whether the beginning is cut off, and not the end.
        anchor: of Pillow: `l` or `r`, and then `a` or `m`.

    Example:
        >>> from PIL import Image
        >>> sheet = Image.new("L", (100, 20), 255)
        >>> draw_text(ImageDraw.Draw(sheet), (2, 2), "cat", "black", 14)
        >>> sheet.getbbox() == (0, 0, 100, 20), sheet.getextrema()[0] < 50
        (True, True)
    """
    runs = fitted(text, size, bold=bold, room=room, keep_end=keep_end)
    main = _font(size, bold)
    x, y = xy
    if anchor[0] == "r":
        x -= _width(runs)
    ascent, descent = main.getmetrics()
    baseline = y + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
    for part, font in runs:
        if font is main:
            draw.text((x, y), part, colour, font, anchor=f"l{anchor[1]}")
        else:
            draw.text((x, baseline), part, colour, font, anchor="ls", embedded_color=draw.mode == "RGB")
        x += font.getlength(part)


def fitted(
    text: str, size: int, *, bold: bool = False, room: float | None = None, keep_end: bool = False
) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The parts of a line of text, each with the font that has its characters.

    Args:
        text, size, bold, room, keep_end: see `draw_text`.

    Example:
        >>> [part for part, _ in fitted("one  two\\nthree", size=12)]
        ['one two three']
        >>> [part for part, _ in fitted("pictures/2024/0001.jpg", size=12, room=60, keep_end=True)]
        ['…...1.jpg']
    """
    text = " ".join(text.split()) or "?"
    runs = _runs(text, size, bold)
    if room is None or _width(runs) <= room:
        return runs
    while len(text) > 1 and _width(runs) > room:
        text = text[1:] if keep_end else text[:-1]
        runs = _runs(f"…{text}" if keep_end else f"{text}…", size, bold)
    return runs


def _width(runs: list[_Run]) -> float:
    return sum(font.getlength(part) for part, font in runs)


def _runs(text: str, size: int, bold: bool) -> list[_Run]:
    pairs = itertools.chain.from_iterable(_with_font(character, size, bold) for character in text)
    return [
        ("".join(character for character, _ in group), font)
        for font, group in itertools.groupby(pairs, key=lambda pair: pair[1])
    ]


def _with_font(character: str, size: int, bold: bool) -> Iterator[_Run]:
    """A character with a font that has it, or what is written in its place."""
    if ord(character) in _glyphs(_dejavu(bold)):
        yield character, _font(size, bold)
    elif unicodedata.category(character) == "Cf" or 0xFE00 <= ord(character) <= 0xFE0F:
        return  # it is not seen: it joins its neighbours, or chooses between forms of one
    elif unicodedata.category(character) not in ("Cc", "Cs") and (font := _other_font(character, size)):
        yield character, font
    else:
        code = ord(character)
        escaped = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        yield from ((part, _font(size, bold)) for part in escaped)


def _dejavu(bold: bool) -> str:
    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", file))


@functools.cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_dejavu(bold), size)


@functools.cache
def _glyphs(file: str) -> frozenset[int]:
    """The characters that a font has; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def _other_fonts() -> tuple[str, ...]:
    """The files of this machine's other fonts, the plain ones first; found only when a name needs one."""
    from matplotlib import font_manager

    entries = [entry for entry in font_manager.fontManager.ttflist if not entry.name.startswith(_WRONG_GLYPHS)]
    entries.sort(key=lambda entry: (entry.style != "normal", str(entry.weight) not in ("400", "normal"), entry.name))
    return tuple(dict.fromkeys(entry.fname for entry in entries))


@functools.cache
def _other_font(character: str, size: int) -> ImageFont.FreeTypeFont | None:
    for file in _other_fonts():
        if ord(character) in _glyphs(file):
            try:
                return _load(file, size)
            except OSError:
                continue  # such as coloured bitmaps, which have one size
    return None


@functools.cache
def _load(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
