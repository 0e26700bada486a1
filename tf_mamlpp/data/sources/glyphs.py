"""Glyphs: letters of many writing systems, drawn from matplotlib's own fonts; a data set that needs no download.

A class is a character that at least three faces draw differently; its 20 pictures vary face, slant, rotation,
scale, stroke weight and position. Splits share no writing system, so that testing is on alphabets never seen,
and a character that looks like an earlier one (Latin A, Greek Alpha, Cyrillic A; o and O, once scaled alike)
is left out.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from tf_mamlpp.data.sources.listing import Pictures, Splits

# By the first word of a character's Unicode name. Characters are compared with all earlier ones, so the order
# matters.
_WRITING_SYSTEMS = {
    "train": ("LATIN", "CYRILLIC", "CANADIAN"),
    "validation": ("GREEK", "HEBREW", "LAO"),
    "test": ("ARMENIAN", "GEORGIAN", "ARABIC"),
}


_INSTANCES = 20  # pictures a class

_SIZE = 28  # pixels, square

_VERSION = 1  # raise when the drawings change

_FACES = tuple(
    [f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
)  # matplotlib's other fonts hold symbols only, or number their letters in ways of their own

_MINIMUM_FACES = 3

# Before 3.11, matplotlib divides unscaled widths by this.
_UNSQUEEZED: dict[str, Any] = {"hinting_factor": 1} if matplotlib.__version_info__ < (3, 11) else {}

_LOOKALIKE = 0.92  # two characters whose blurred drawings have this cosine similarity or more are taken for one

_EXTENT = 20.0  # pixels, the longer side of a letter before variation


@dataclass(frozen=True)
class _Look:
    """How one picture is drawn; the defaults give the plain letter."""

    slant: float = 0.0  # tangent of the angle
    rotation: float = 0.0  # degrees
    scale: float = 1.0
    stroke: float = 0.0  # pixels added to every stroke's width
    shift: tuple[float, float] = (0.0, 0.0)  # pixels


def glyph_splits() -> Splits:
    """The splits of glyphs, none of them drawn yet.

    Returns:
        For each split, a key that changes with the fonts and the way of drawing, and a function that lists the
        pictures.

    Example:
        >>> list(glyph_splits())
        ['train', 'validation', 'test']
        >>> letter = Path(np.array([[-0.5, -0.5], [0.5, -0.5], [0.0, 0.5], [-0.5, -0.5]]))  # a triangle
        >>> [image.shape for _, _, image in _pictures({"A": [letter]}).read()][:2]
        [(28, 28), (28, 28)]
    """
    fonts = [(face, zlib.crc32(_font_file(face).read_bytes())) for face in _FACES]
    shared: dict[str, dict[str, list[Path]]] = {}

    def opener(split: str) -> Callable[[], Pictures]:
        def open_pictures() -> Pictures:
            if not shared:  # found for all splits at once, because each character is compared with all earlier ones
                shared.update(_characters())
            return _pictures(shared[split])

        return open_pictures

    return {split: (repr([_VERSION, fonts]), opener(split)) for split in _WRITING_SYSTEMS}


def _font_file(face: str) -> FilePath:
    return FilePath(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")


def _characters() -> dict[str, dict[str, list[Path]]]:
    """Split -> character -> its distinct outlines."""
    outlines = _outlines()
    seen = np.zeros((0, _SIZE * _SIZE), np.float32)
    splits: dict[str, dict[str, list[Path]]] = {}
    for split, systems in _WRITING_SYSTEMS.items():
        characters = [c for system in systems for c in sorted(outlines) if _system(c) == system]
        splits[split] = {}
        for character in characters:
            fingerprint = _fingerprint(outlines[character][0])
            if not len(seen) or np.max(seen @ fingerprint) < _LOOKALIKE:
                seen = np.concatenate([seen, fingerprint[None]])
                splits[split][character] = outlines[character]
    return splits


def _outlines() -> dict[str, list[Path]]:
    """Letters of the wanted writing systems with the distinct outlines that the faces have for them."""
    wanted = {system for systems in _WRITING_SYSTEMS.values() for system in systems}
    found: dict[str, dict[bytes, Path]] = {}
    for face in _FACES:
        font = FT2Font(str(_font_file(face)), **_UNSQUEEZED)
        for code in font.get_charmap():
            if _is_letter(chr(code)) and _system(chr(code)) in wanted:
                outline = _outline(font, code)
                if np.size(outline.vertices):  # a face may map a letter to an empty drawing
                    found.setdefault(chr(code), {}).setdefault(np.asarray(outline.vertices).tobytes(), outline)
    return {c: list(distinct.values()) for c, distinct in found.items() if len(distinct) >= _MINIMUM_FACES}


def _is_letter(character: str) -> bool:
    """Whether it is an upper-case, lower-case or caseless letter, and not another letter with an accent."""
    return unicodedata.category(character) in ("Lu", "Ll", "Lo") and not unicodedata.decomposition(character)


def _system(character: str) -> str:
    return unicodedata.name(character, "?").split()[0]


def _outline(font: FT2Font, code: int) -> Path:
    """A letter's outline as the font stores it, its box centred on the origin and its longer side 1 long."""
    font.load_char(code, flags=LoadFlags.NO_SCALE)
    vertices, codes = font.get_path()
    if not len(vertices):
        return Path(np.zeros((0, 2)))
    closing = np.flatnonzero(codes == Path.CLOSEPOLY)
    vertices[closing] = vertices[closing - 1]  # drawing ignores these points; minimum does not
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return Path((vertices - (low + high) / 2) / (high - low).max(), codes)


def _fingerprint(outline: Path) -> np.ndarray:
    """A blurred plain drawing as a unit vector [_SIZE * _SIZE]; those of lookalikes are close to each other."""
    ink = 255.0 - _draw([(outline, _Look())])[0].astype(np.float32)
    for _ in range(2):
        for axis in (0, 1):
            ink = ink + np.roll(ink, 1, axis) + np.roll(ink, -1, axis)
    return ink.ravel() / np.linalg.norm(ink)


def _pictures(characters: dict[str, list[Path]]) -> Pictures:
    def read() -> Iterator[tuple[int, str, np.ndarray]]:
        for number, (character, outlines) in enumerate(characters.items()):
            for row, image in enumerate(_draw(_variations(character, outlines)), start=number * _INSTANCES):
                yield row, unicodedata.name(character), image

    names = tuple(f"{_system(c).title()}/{unicodedata.name(c)}" for c in characters)
    return Pictures(names, (_INSTANCES,) * len(names), read)


def _variations(character: str, outlines: list[Path]) -> list[tuple[Path, _Look]]:
    """What the pictures of a character show: its faces in turn, each picture with its own look."""
    bits = np.random.Philox(np.random.SeedSequence([_VERSION, ord(character)])).random_raw(_INSTANCES * 6)
    chance = (bits / 2.0**64).reshape(_INSTANCES, 6)  # raw bits: NumPy promises their stream for ever
    looks = [
        _Look(
            slant=0.5 * row[0] - 0.25,
            rotation=24.0 * row[1] - 12.0,
            scale=0.8 + 0.3 * row[2],
            stroke=1.2 * row[3],
            shift=(4.0 * row[4] - 2.0, 4.0 * row[5] - 2.0),
        )
        for row in chance
    ]
    return [(outlines[i % len(outlines)], look) for i, look in enumerate(looks)]


def _draw(drawings: list[tuple[Path, _Look]]) -> np.ndarray:
    """Draws outlines side by side on one canvas: dark on white, uint8 [drawings, _SIZE, _SIZE]."""
    renderer = RendererAgg(_SIZE * len(drawings), _SIZE, dpi=72)
    context = renderer.new_gc()
    context.set_antialiased(True)
    context.set_snap(False)
    for number, (outline, look) in enumerate(drawings):
        context.set_linewidth(look.stroke)
        renderer.draw_path(context, outline, _placement(outline, look, _SIZE * number), (0.0, 0.0, 0.0))
    coverage = np.asarray(renderer.buffer_rgba())[..., 3]
    return 255 - coverage.reshape(_SIZE, len(drawings), _SIZE).swapaxes(0, 1)


def _placement(outline: Path, look: _Look, left: int) -> Affine2D:
    """The transform from a unit outline to pixels that keeps all ink in the picture that begins at `left`."""
    turned = Affine2D(np.array([[1, look.slant, 0], [0, 1, 0], [0, 0, 1]])).rotate_deg(look.rotation)
    points = turned.transform(outline.vertices)
    low, high = points.min(axis=0), points.max(axis=0)
    room = _SIZE - 2.0 - look.stroke
    scale = min(_EXTENT * look.scale, room / (high - low).max())
    slack = (room - scale * (high - low)) / 2
    middle = _SIZE / 2 + np.clip(look.shift, -slack, slack) - scale * (low + high) / 2
    return turned.scale(scale).translate(left + middle[0], middle[1])
