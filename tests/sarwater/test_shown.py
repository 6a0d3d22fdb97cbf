from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sarwater.errors import SarwaterError
from sarwater.shown import shown


@settings(deadline=None)
@given(st.text())
def test_no_text_leaves_its_line(text: str) -> None:
    assert "\n" not in shown(text)
    assert "\x1b" not in shown(text)
    assert len(shown(text).splitlines()) <= 1


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_readable_text_stays_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_a_message_is_one_line_of_bounded_length() -> None:
    text = str(SarwaterError("a.tif: " + "x" * 10_000_000 + "\x1b[2J\nforged; send it again"))
    assert len(text) < 3000
    assert text.isprintable()
    assert text.startswith("a.tif: ")
    assert text.endswith("forged; send it again")
