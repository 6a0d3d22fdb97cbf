"""The table of docs/products.md, made of what the registry says of itself.

python -m sarwater.scenes.readers.table docs/products.md      writes it anew, between its two comments
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from sarwater.scenes.readers import READERS, Reader

BEGIN = "<!-- begin: the table is made of sarwater/scenes/readers by `make docs` -->"
END = "<!-- end -->"
_COLUMNS = ("product", "told by", "read", "unit of the pixels", "not used")


def table_of(readers: Iterable[Reader] = READERS) -> str:
    """Markdown: one row a kind, in the order in which they are asked."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    kinds = [kind for reader in readers for kind in reader.kinds]
    rows += [(k.name, k.looks_for, k.reads or "-", k.unit or "-", k.unused or "-") for k in kinds]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    """Asterisks of file names are no emphasis; within code they stay."""
    parts = text.replace("|", "/").split("`")
    return "`".join(part if index % 2 else part.replace("*", r"\*") for index, part in enumerate(parts))


def with_table(page: str, readers: Iterable[Reader] = READERS) -> str:
    """`page` with the table between its two comments made anew. Raises ValueError where they are not there."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"expected {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table_of(readers)}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
