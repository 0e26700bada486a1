"""What the page needs, told in one line before a model is loaded."""

import importlib.metadata

import pytest

from tf_mamlpp.demo.requirements import check_gradio
from tf_mamlpp.errors import UserError


@pytest.mark.parametrize(
    "version, line",
    [(None, "not installed: pip install"), ("5.49.1", "5.49.1 is too old"), ("6.9.0", "too old"), ("6.17.0", None)],
)
def test_gradio(monkeypatch, version, line):
    def find(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", find)
    if line is None:
        check_gradio()
    else:
        with pytest.raises(UserError, match=line):
            check_gradio()
