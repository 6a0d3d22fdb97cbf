"""Random damage to what the real writers made, and every finding of it that there ever was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.mutating import FINDINGS, fuzz, kind_of, mutations
from tests.torture.seeds import KINDS

EACH = 40


@pytest.mark.parametrize("kind", KINDS)
def test_damage_costs_one_line(kind: str) -> None:
    findings = fuzz(kind, list(mutations(kind, EACH, seed=1)))
    assert [what for _, what in findings] == []


@pytest.mark.parametrize("finding", sorted(FINDINGS.iterdir()), ids=lambda path: path.name)
def test_what_was_found_once_costs_one_line(finding: Path) -> None:
    assert [what for _, what in fuzz(kind_of(finding), [finding.read_bytes()])] == []


def test_what_goes_wrong_is_found() -> None:
    def read(path: Path) -> None:
        content = path.read_bytes()
        if content == b"bug":
            raise IndexError(content)
        if content == b"crash":
            import ctypes

            ctypes.string_at(0)

    KINDS["test"] = (lambda: (b"",), read, ".bin")
    try:
        found = fuzz("test", [b"sound", b"bug", b"crash", b"sound", b"bug"])
    finally:
        del KINDS["test"]
    assert [content for content, _ in found] == [b"bug", b"crash", b"bug"]
    assert "IndexError" in found[0][1]
    assert "-11" in found[1][1]
