"""A document of a few kinds of blocks, as Markdown and as one self-contained HTML page.  Imports no TensorFlow."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown import Markdown


@dataclass(frozen=True)
class Heading:
    """A heading.

    Example:
        >>> as_markdown([Heading("Cost")])
        '## Cost\\n'
    """

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; its text may have `code`, **bold** and *italic* parts.

    Example:
        >>> as_markdown([Paragraph("A *settled* run.")])
        'A *settled* run.\\n'
    """

    text: str


@dataclass(frozen=True)
class Items:
    """A list with bullets; the texts are like a paragraph's.

    Example:
        >>> as_markdown([Items(["one", "two"])])
        '- one\\n- two\\n'
    """

    texts: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines of a shell.

    Example:
        >>> print(as_markdown([Code("tf-mamlpp train")]), end="")
        ```bash
        tf-mamlpp train
        ```
    """

    text: str


@dataclass(frozen=True)
class Table:
    """A table; its cells are like a paragraph's text.

    Example:
        >>> print(as_markdown([Table(["method", "accuracy"], [["MAML", "95.80"]])]), end="")
        | method | accuracy |
        |---|---|
        | MAML | 95.80 |
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A picture in the files `NAME.svg` and `NAME.png` of a folder beside the document.

    Attributes:
        folder: of the files.
        name: of the files, without suffix.
        caption: plain text.

    Example:
        >>> print(as_markdown([Figure(tmp_path / "figures", "norms", "Gradient norms.")]), end="")
        ![Gradient norms.](figures/norms.png)
        <BLANKLINE>
        *Gradient norms.*
    """

    folder: Path
    name: str
    caption: str


Block = Heading | Paragraph | Items | Code | Table | Figure


def as_markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown; figures are links to their PNG files.

    Example:
        >>> as_markdown([Heading("Cost"), Paragraph("In seconds.")])
        '## Cost\\n\\nIn seconds.\\n'
    """
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
pre code { padding: 0; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #333; font-size: .92em; }
"""


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page that needs no other file; figures are inside as SVG.

    Args:
        title: of the page, plain text.
        blocks: their texts may hold anything: tags, links and pictures in them are shown as they are written.

    Raises:
        OSError: a figure's SVG file cannot be read.

    Example:
        >>> "<p>A &lt;tag&gt; and <em>stress</em>.</p>" in as_html("Report", [Paragraph("A <tag> and *stress*.")])
        True
    """
    reader = _reader()
    body = "\n".join(
        _html_figure(block) if isinstance(block, Figure) else reader.reset().convert(_markdown(block))
        for block in blocks
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


_LINKS_AND_TAGS = (
    "autolink",
    "automail",
    "html",
    "image_link",
    "image_reference",
    "link",
    "reference",
    "short_image_ref",
    "short_reference",
)


def _reader() -> Markdown:
    """Reads Markdown without HTML, links and pictures: the errors and names in a report may be any text."""
    reader = Markdown(extensions=["tables", "fenced_code"], output_format="html")
    reader.preprocessors.deregister("html_block")
    reader.parser.blockprocessors.deregister("reference")
    for name in _LINKS_AND_TAGS:
        reader.inlinePatterns.deregister(name)
    return reader


def _html_figure(figure: Figure) -> str:
    svg = base64.b64encode((figure.folder / f"{figure.name}.svg").read_bytes()).decode()
    caption = html.escape(figure.caption)
    image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{svg}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
