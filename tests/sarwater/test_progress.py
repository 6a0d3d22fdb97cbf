from __future__ import annotations

import time

import pytest

from sarwater.progress import Progress


def test_the_phase_with_the_most_steps_leads() -> None:
    progress = Progress("building", quiet=True)
    progress.phase("tactics", 30, 120)
    progress.phase("reading", 1, 2)  # nested, and shorter
    assert progress.line().startswith("building: 30 of 120, 25%, about")
    assert progress.line().endswith("reading")
    progress.phase("tactics", 60, 120)
    assert "60 of 120, 50%" in progress.line()


def test_it_speaks_within_two_seconds_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("converting") as progress:
        progress.phase("float16", 0, 1)
        time.sleep(1.9)
    assert capsys.readouterr().err.startswith("converting: ")
