"""A small document that is written as Markdown and as one self-contained HTML page.  Imports no TensorFlow."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str  # `code`, **bold** and *italic* as in Markdown


@dataclass(frozen=True)
class Items:
    texts: Sequence[str]


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A picture in the files `NAME.svg` and `NAME.png` of `folder`, beside the document."""

    folder: Path
    name: str
    caption: str


Block = Heading | Paragraph | Items | Code | Table | Figure


def markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown; figures are links to their PNG files."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Items):
        return "\n".join(f"- {text}" for text in block.texts)
    if isinstance(block, Code):
        return f"```bash\n{block.text}\n```"
    if isinstance(block, Figure):
        return f"![{block.caption}]({block.folder.name}/{block.name}.png)\n\n*{block.caption}*"
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (block.header, *block.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(block.header), *lines[1:]])


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #bbb; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #111; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
code, pre { background: #f2f2f2; padding: .1rem .25rem; } pre { padding: .6rem; overflow-x: auto; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #333; font-size: .92em; }
"""


def page(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page that needs no other file; figures are inside as SVG."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Items):
        return "<ul>" + "".join(f"<li>{_inline(text)}</li>" for text in block.texts) + "</ul>"
    if isinstance(block, Code):
        return f"<pre>{html.escape(block.text)}</pre>"
    if isinstance(block, Figure):
        svg = base64.b64encode((block.folder / f"{block.name}.svg").read_bytes()).decode()
        caption = _inline(block.caption)
        alt = html.escape(block.caption, quote=True)
        image = f'<img alt="{alt}" src="data:image/svg+xml;base64,{svg}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in block.header)
    rows = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in block.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    escaped = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escaped)
    return re.sub(r"\*([^*]+)\*", r"<i>\1</i>", escaped)
