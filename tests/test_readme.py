"""What README and docs say runs and leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "BUILD_NOTES.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_placeholders(page):
    text = page.read_text()
    assert not re.search(r"@[A-Z0-9]+@", text)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
        assert (page.parent / link).exists(), link
    for file in re.findall(r"\b(?:bin|configs)/\w+\.py", text):
        assert (ROOT / file).exists(), file


def test_the_python_example_runs():
    code = re.search(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL).group(1)
    quick = code.replace("steps_per_epoch=100", "steps_per_epoch=1").replace("filters=32", "filters=2")
    names: dict = {}
    exec(quick.replace("count=10", "count=1").replace("configure()", "pass"), names)
    assert names["probabilities"].shape == (5, 5)
    assert abs(float(names["probabilities"].numpy().sum()) - 5) < 1e-4
