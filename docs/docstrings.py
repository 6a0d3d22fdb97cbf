"""What docstrings show as examples and tables, by their spaces, stays so on the site's page of the Python API."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ALIGNED = re.compile(r"\S {3,}\S|^ {4}\S|^with .*:$|^\w+ = ", re.MULTILINE)


class KeptLayout(griffe.Extension):
    """Paragraphs with columns or with code become blocks of code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(_as_code, paragraphs))


def _as_code(paragraph: str) -> str:
    return textwrap.indent(paragraph, "    ") if _ALIGNED.search(paragraph) else paragraph
