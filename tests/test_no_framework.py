"""Modules that promise it load no framework, so that a command tells mistakes at once."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISE = re.compile("Imports? no (TensorFlow|framework)")


def promising():
    for file in sorted((ROOT / "tf_mamlpp").rglob("*.py")):
        if PROMISE.search(ast.get_docstring(ast.parse(file.read_text())) or ""):
            yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def loaded_by(*modules):
    code = f"import sys, {', '.join(modules)}; print(*sorted({{'tensorflow', 'keras', 'torch'}} & set(sys.modules)))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()


def test_they_load_none():
    modules = list(promising())
    assert {"tf_mamlpp.config", "tf_mamlpp.errors", "tf_mamlpp.meta.settings", "tf_mamlpp.study.plan"} <= set(modules)
    assert loaded_by(*modules, "tf_mamlpp", "tf_mamlpp.commands.console", "tf_mamlpp.data") == []


@pytest.mark.slow
def test_one_that_does_is_found():
    assert "keras" in loaded_by("tf_mamlpp.meta.schedules")
