"""docs/products.md says what the registry says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sarwater.scenes.readers import READERS
from sarwater.scenes.readers.base import Reader, Source
from sarwater.scenes.readers.table import table_of, with_table
from sarwater.scenes.scene import Scene
from tests.conftest import CHECKOUT

PAGE = CHECKOUT / "docs" / "products.md"


class _Bare(Reader):
    name = "bare"
    looks_for = "a file | a folder"

    def matches(self, path: Path, name: str) -> bool:
        return False

    def open(self, source: Source) -> Scene:
        raise NotImplementedError


def test_the_page_is_as_the_registry_makes_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text, "run `make docs`"


def test_every_kind_has_one_row() -> None:
    rows = table_of().splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        kind.name for reader in READERS for kind in reader.kinds
    ]


def test_a_reader_that_says_no_more_than_it_must_has_a_row_too() -> None:
    assert table_of([_Bare()]).splitlines()[-1] == "| bare | a file / a folder | - | - | - |"


def test_a_page_without_the_place_for_it_is_not_touched() -> None:
    with pytest.raises(ValueError, match="expected <!-- begin"):
        with_table("# Products\n")
