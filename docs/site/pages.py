"""The pages of the site: the repository's own, in the same places, and one for each module, config and the tutorial.

A link to a file that is no page, such as `tf_mamlpp/meta/settings.py`, leads to the page made of that file.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbconvert
from mkdocs.structure.files import File, Files

import tf_mamlpp

ROOT = Path(__file__).parents[2]
PACKAGE = "tf_mamlpp"
PAGES = ["README.md", "BUILD_NOTES.md", "configs/*.md", "docs/**/*.md", f"{PACKAGE}/**/*.md"]
BESIDE = ["docs/**/*.png", "docs/site/*.css"]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Adds to the navigation the guides that it does not name, the configs and the API."""
    guide = next(section["Guide"] for section in config.nav if "Guide" in section)
    guide += [page for page in map(_uri, sorted(ROOT.glob("docs/*.md"))) if page not in str(config.nav)]
    configs = {"Configs": ["configs/README.md", *map(_entry, _configs())]}
    config.nav[-2:-2] = [configs, {"API": _room(ROOT / PACKAGE)}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Replaces what lies beside this folder by all pages."""
    return Files(
        [
            *(file for file in files if file.src_dir != config.docs_dir),  # the theme's
            *(File.generated(config, _uri(file), abs_src_path=str(file)) for file in _repository_pages()),
            *(File.generated(config, uri, content=content) for uri, content in _made_pages()),
        ]
    )


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Leads links to files that are no pages to the pages made of them."""

    def lead(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        place = posixpath.dirname(page.file.src_uri)
        for candidate in (target, _page(Path(target)), f"{target}/index.md"):
            if files.get_file_from_path(posixpath.normpath(posixpath.join(place, candidate))):
                return f"]({candidate}{anchor})"
        return match[0]

    return LINK.sub(lead, markdown)


def _uri(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _page(file: Path) -> str:
    """The page made of a file."""
    file = file.relative_to(ROOT) if file.is_absolute() else file
    return file.with_name("index.md" if file.stem == "__init__" else f"{file.stem}.md").as_posix()


def _entry(file: Path) -> dict[str, str]:
    return {file.stem: _page(file)}


def _repository_pages() -> Iterator[Path]:
    for pattern in [*PAGES, *BESIDE]:
        yield from sorted(ROOT.glob(pattern))


def _modules() -> list[Path]:
    return [file for file in sorted((ROOT / PACKAGE).rglob("*.py")) if file.name != "__main__.py"]


def _configs() -> list[Path]:
    return sorted((ROOT / "configs").glob("*.py"))


def _room(folder: Path) -> list[Any]:
    """The navigation of a room: its own page, the rooms in it, its modules."""
    files = [file for file in _modules() if file.parent == folder and file.stem != "__init__"]
    rooms = [file.parent for file in sorted(folder.glob("*/__init__.py"))]
    return [_page(folder / "__init__.py"), *({room.name: _room(room)} for room in rooms), *map(_entry, files)]


def _made_pages() -> Iterator[tuple[str, str | bytes]]:
    for file in _modules():
        yield _page(file), _room_page(file) if file.name == "__init__.py" else _module_page(file)
    for file in _configs():
        yield _page(file), f"# {file.name}\n\n```python\n{file.read_text()}```\n"
    yield from _tutorial(ROOT / "docs" / "tutorial.ipynb")


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _module_page(file: Path) -> str:
    name = _name(file)
    return f"# {name.removeprefix(f'{PACKAGE}.')}\n\n::: {name}\n"


def _room_page(file: Path) -> str:
    """What a room says of itself, and a row for each module."""
    modules = [other for other in _modules() if other.parent == file.parent and other != file]
    rooms = [other for other in _modules() if other.parents[1] == file.parent and other.name == "__init__.py"]
    rows = [
        _row(other, posixpath.relpath(_page(other), posixpath.dirname(_page(file)))) for other in [*rooms, *modules]
    ]
    public = _public_names() if _name(file) == PACKAGE else ""
    return "\n".join([f"# {_name(file)}", "", _doc(file), "", public, "| module | |", "|---|---|", *rows, ""])


def _doc(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text())) or ""


def _first(text: str) -> str:
    """The first paragraph in one line, fit for a table."""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")


def _row(file: Path, link: str) -> str:
    name = file.parent.name if file.stem == "__init__" else file.stem
    return f"| [{name}]({link}) | {_first(_doc(file))} |"


def _public_names() -> str:
    """A row for each name of the package, with what its docstring begins with."""
    rows = ["| name | |", "|---|---|"]
    for name, home in sorted(tf_mamlpp._HOME.items()):
        file = (ROOT / PACKAGE / home.replace(".", "/")).with_suffix(".py")
        docs = {getattr(node, "name", ""): node for node in ast.parse(file.read_text()).body}
        text = ast.get_docstring(docs[name]) if name in docs else ""  # type: ignore[arg-type]
        rows.append(f"| [`mp.{name}`][{PACKAGE}.{home}.{name}] | {_first(text or '')} |")
    return "\n".join([*rows, ""])


def _tutorial(notebook: Path) -> Iterator[tuple[str, str | bytes]]:
    """The notebook as a page, with the pictures that it was saved with."""
    text, resources = nbconvert.MarkdownExporter().from_filename(str(notebook))
    yield _page(notebook), text
    for name, picture in resources["outputs"].items():
        yield f"docs/{name}", picture
