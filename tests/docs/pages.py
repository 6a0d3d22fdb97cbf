"""The pages, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.conftest import CHECKOUT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "systemd/*.md", "recipes/*.md", "benchmarks/[!r]*.md")
    for path in CHECKOUT.glob(pattern)
)
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>slow|not run: [^>]+) -->\n\n)?"
    r"(?:^```(?P<fence>\w+)\n(?P<fenced>.*?)^```$|(?<=\n\n)(?P<indented>(?:^(?:    |\t)\S[^\n]*\n)+))",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """What a reader types: indented lines are for the shell, a fence says its language."""

    language: Literal["python", "shell"]
    text: str
    mark: str
    """`slow`, or `not run: REASON`, which a comment before the block says; "" for none."""


def name_of(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def blocks_of(page: Path) -> Iterator[Block]:
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if found["indented"]:
            lines = textwrap.dedent(found["indented"]).splitlines()
            yield Block("shell", "\n".join(re.sub(r"\s+#\s.*", "", line) for line in lines), found["mark"] or "")
        elif found["fence"] == "python":
            yield Block("python", found["fenced"], found["mark"] or "")
