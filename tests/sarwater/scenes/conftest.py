from __future__ import annotations

from collections.abc import Iterator

import pytest

from sarwater.scenes import trial
from tests.support.on_trial import SERVE


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that does what a path is called; a busy machine has time for it."""
    trial._stop()
    monkeypatch.setattr(trial, "_SERVE", SERVE)
    monkeypatch.setattr(trial, "PATIENCE_S", 120)
    yield
    trial._stop()
