"""What README, docs and the headers of configs say: links lead somewhere, code runs, every setting is listed."""

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "BUILD_NOTES.md", ROOT / "configs/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
FENCED = re.compile(r"(<!-- run -->\n)?```(\w*)\n(.*?)```", re.DOTALL)


def page_name(page):
    return str(page.relative_to(ROOT))


def prose_of(page):
    return FENCED.sub("", page.read_text())


def python_blocks(page):
    """The Python code of a page, and whether it is marked to be run."""
    return [(code, bool(run)) for run, language, code in FENCED.findall(page.read_text()) if language == "python"]


BLOCKS = [
    pytest.param(code, run, id=f"{page_name(page)}-{number}")
    for page in PAGES
    for number, (code, run) in enumerate(python_blocks(page))
]


def anchors_of(page):
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_and_placeholders(page):
    text = page.read_text()
    assert not re.search(r"@[A-Z0-9]+@", text)
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose_of(page)):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors_of(target), f"{file}#{anchor}"
    for file in re.findall(r"\b(?:bin|configs)/\w+\.py", text):
        assert (ROOT / file).exists(), file


def test_a_heading_has_its_anchor(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Keys of results.json\n```bash\n# no heading\n```\n## MAML beside MAML++\n")
    assert anchors_of(page) == {"keys-of-resultsjson", "maml-beside-maml"}


@pytest.mark.parametrize(("code", "run"), BLOCKS)
def test_python_code(code, run, monkeypatch):
    """Every block compiles and imports what there is; a marked one runs."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("tf_mamlpp"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
    if run:
        monkeypatch.chdir(ROOT)
        exec(code, {})


def test_the_python_example_runs():
    code = python_blocks(README)[0][0]
    for shown, quick in (
        ("filters=32", "filters=2"),
        ("inner_steps=5", "inner_steps=2"),
        ("tasks=8", "tasks=2"),
        ("count=10", "count=1"),
        ("steps_per_epoch=100", "steps_per_epoch=1"),
        ("epochs=6", "epochs=1"),  # each phase of the schedules would be traced
        ("configure()", "pass"),  # the tests have done it
    ):
        assert shown in code
        code = code.replace(shown, quick)
    names: dict = {}
    exec(code, names)
    assert names["probabilities"].shape == (5, 5)
    assert abs(float(names["probabilities"].numpy().sum()) - 5) < 1e-4


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_header_of_a_config(file):
    header = ast.get_docstring(ast.parse(file.read_text()))
    assert f"\n    tf-mamlpp train --config={file.stem}" in header
    assert re.search(r"^Takes: .*(GB|MB)", header, re.MULTILINE | re.DOTALL)
    assert re.search(r"^Expect: ", header, re.MULTILINE)


def test_the_page_of_the_configs():
    text = (ROOT / "configs/README.md").read_text()
    for file in CONFIGS:
        assert text.count(f"| [{file.name}]({file.name}) |") == 1, file.name
        listed = re.search(rf"^\|[^|]*`{file.name}`[^|]*\| (.*) \|$", text, re.MULTILINE).group(1)
        taken = re.search(r"parse_argument\(\s*argument,([^)]*)\)", file.read_text()).group(1)
        assert listed.split(", ") == re.findall(r"(\w+)=", taken), file.name


def settings_of(config):
    """Every setting by its name in flags."""
    tree = dataclasses.asdict(config)
    sections = [(f"{section}.", part) for section, part in tree.items() if isinstance(part, dict)]
    return {"seed": tree["seed"], **{prefix + key: part[key] for prefix, part in sections for key in part}}


def test_the_page_of_the_settings():
    """docs/config.md lists every setting once, with its default."""
    page = (ROOT / "docs/config.md").read_text()
    rows = re.findall(r"^\| `(\w+\.\w+|seed)` \| `([^`]*)` \|", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(settings_of(Config()))
    listed = configs.override(Config(seed=1), [f"--config.{name}={default}" for name, default in rows])
    assert listed == Config()
