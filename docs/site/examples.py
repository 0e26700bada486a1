"""Docstrings of this package say `Example:`; what reads them for the site knows the section as `Examples:`."""

from __future__ import annotations

import re
from typing import Any

import griffe

_HEADING = re.compile(r"^(?P<indent> *)Example:", re.MULTILINE)


class Examples(griffe.Extension):
    """Shows an example as code with its output."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _HEADING.sub(r"\g<indent>Examples:", obj.docstring.value)
