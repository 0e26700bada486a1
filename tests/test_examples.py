"""Every public function and class has an example in its docstring, and every example runs."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tf_mamlpp").rglob("*.py"))
PEERS = "tf_mamlpp.benchmark.pytorch_peers"  # needs PyTorch
PAGE = "tf_mamlpp.demo.page"  # needs Gradio
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def without_example(source):
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if ">>>" not in (ast.get_docstring(node) or ""):
                yield node.name


def is_command(module, names):
    """The example of a command is the command line in its module's docstring: tests/commands/test_console.py."""
    return module.startswith("tf_mamlpp.commands.") and names == ["main"]


def test_one_without_an_example_is_found():
    source = 'def one():\n    """Does it.\n\n    >>> one()\n    """\ndef two(): pass\nclass Three: pass'
    assert list(without_example(source)) == ["two", "Three"]


def test_every_public_name_has_an_example():
    missing = {module_name(file): list(without_example(file.read_text())) for file in FILES}
    exempt = {module for module, names in missing.items() if module == PEERS or is_command(module, names)}
    assert {module: names for module, names in missing.items() if names and module not in exempt} == {}


@pytest.mark.slow_cases(
    "tf_mamlpp.training.fit",
    "tf_mamlpp.training.pretrain",
    "tf_mamlpp.training.results",
    "tf_mamlpp.training.train",
    "tf_mamlpp.deploy.deployed_model",
    "tf_mamlpp.deploy.saved_model",
)
@pytest.mark.parametrize("module", [m for m in map(module_name, FILES) if m != PEERS])
def test_the_examples_of_a_module(module, tmp_path, monkeypatch):
    if module == PAGE:
        pytest.importorskip("gradio", reason="Gradio is not installed: pip install -e '.[demo]'")
    monkeypatch.chdir(tmp_path)  # what they write without a folder
    loaded = importlib.import_module(module)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for number, examples in enumerate(finder.find(loaded, module, extraglobs={"tmp_path": None})):
        folder = tmp_path / str(number)
        folder.mkdir()
        examples.globs["tmp_path"] = folder
        runner.run(examples)
    assert runner.summarize(verbose=False).failed == 0
