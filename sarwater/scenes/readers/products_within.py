"""The products that lie in a folder, and in folders within it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sarwater.scenes.readers.base import MAX_MEMBERS, named

SHOWN = 4
"""Names in a message."""


def levels(folder: Path, name: str) -> Iterator[list[tuple[Path, str]]]:
    """The products of each level of folders, from the top, as (path, name): folders that are whole products, and files
    that belong to none. Files of a folder that lacks others are none, but for one by itself. Links are not followed,
    and nothing is told of more than MAX_MEMBERS entries."""
    if lack_of(folder, name) == []:
        yield [(folder, name)]
        return
    level = [(folder, _is_torn(folder, name))]
    left = MAX_MEMBERS
    while level:
        products: list[tuple[Path, str]] = []
        below: list[tuple[Path, bool]] = []
        for parent, torn in level:
            entries = [entry for entry in named(parent, "*") if not entry.is_symlink()]
            left -= len(entries)
            if left < 0:
                return
            for entry in entries:
                if (entry.is_dir() or not torn) and lack_of(entry, entry.name) == []:
                    products.append((entry, entry.name))
                elif entry.is_dir():
                    below.append((entry, torn or _is_torn(entry, entry.name)))
        if products:
            yield products
        level = below


def incomplete(folder: Path, name: str) -> str:
    """What the first folder lacks that is called, or looks, like a product; empty where none does."""
    folders = ((path, path.name) for path in sorted(folder.rglob("*")) if path.is_dir())
    torn = ((called, lack_of(path, called)) for path, called in (*folders, (folder, name)))
    return next((f"{called}: lacks {listed(lack)}" for called, lack in torn if lack), "")


def lack_of(path: Path, name: str) -> list[str] | None:
    """What the product at `path` lacks; None where it is none, or only holds one."""
    from sarwater.scenes.readers import find_reader
    from sarwater.scenes.readers.nested_folder import NestedFolder  # which both know this

    reader = find_reader(path, name, without=(NestedFolder,))
    return reader.missing(path) if reader else None


def listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _is_torn(folder: Path, name: str) -> bool:
    """Whether files of a product are here, and others are not."""
    return bool(lack_of(folder, name)) and len(named(folder, "*")) > 1
