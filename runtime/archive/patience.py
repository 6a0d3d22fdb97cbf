"""How often a scene is tried, and when trouble is the store's and not the scene's.

What a scene may be at fault for is tried three times, as in the daemon. What the place is at fault for (the store, the
scratch disk) is tried again for as long as nothing else succeeds either, an hour at most: an outage costs time alone.
"""

from __future__ import annotations

import random
import time
from collections import Counter

from runtime.archive.job import SceneResult
from runtime.archive.store import StoreRefused

MAX_TRIES = 3
"""Failures of one scene that may be its own fault before it is set aside."""
PATIENCE_S = 3600.0
"""How long a run waits while nothing succeeds."""
_MAX_LATER = 8
"""Tries of one scene that the place failed while others succeed; it waits for another run then."""
_TROUBLE = 20
"""Failures in a row from which everything is taken to be in trouble."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


class Patience:
    """Told of every result of a run."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._tries: Counter[str] = Counter()
        self._since_s: dict[str, float] = {}
        """When the trouble of a scene began."""
        self._in_a_row = 0
        self._sound_s = time.monotonic()
        """When the last scene was settled, or the run began."""

    def tries(self, token: str) -> int:
        """That ended in trouble."""
        return self._tries[token]

    def is_over(self, result: SceneResult) -> bool:
        """Whether `result` is the last word on its scene. Raises StoreRefused where every scene is refused."""
        if result.outcome != "later":
            self._in_a_row, self._sound_s = 0, time.monotonic()
            return True
        self._tries[result.token] += 1
        if result.blamed:
            return self._tries[result.token] >= MAX_TRIES
        self._in_a_row += 1
        refused = result.reason == StoreRefused.reason
        if refused and self._in_a_row >= _TROUBLE:
            raise StoreRefused(result.message)
        now_s = time.monotonic()
        others_do = self._sound_s > self._since_s.setdefault(result.token, now_s)
        tried = self._tries[result.token] >= _MAX_LATER and (others_do or refused)
        return tried or now_s - self._sound_s > self._patience_s

    @property
    def in_trouble(self) -> bool:
        """Whether one scene at a time is enough to see if things are well again."""
        return self._in_a_row >= _TROUBLE

    def wait_s(self, token: str) -> float:
        """Until the next try, with jitter."""
        longest_s = _FIRST_WAIT_S * 2.0 ** min(10, self._tries[token] - 1)
        return min(_LONGEST_WAIT_S, longest_s) * random.uniform(0.5, 1)
