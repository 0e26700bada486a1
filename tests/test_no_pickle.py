"""Pickle runs what it reads: nothing in the package or its commands reads it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [file for folder in ("tf_mamlpp", "bin", "configs") for file in sorted((ROOT / folder).rglob("*.py"))]
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def offences(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (name for name in names if name.split(".")[0] in PICKLERS)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            pickles = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("allow_pickle")
            if pickles not in (None, "False") or (called in ("np.load", "numpy.load") and pickles != "False"):
                yield ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "np.load(f)", "np.load(f, allow_pickle=True)", "x(allow_pickle=y)"],
)
def test_what_reads_pickle_is_found(source):
    assert list(offences(source))


def test_nothing_reads_pickle():
    assert len(FILES) > 50
    assert {str(f.relative_to(ROOT)): found for f in FILES if (found := list(offences(f.read_text())))} == {}
