"""How far the worker is with its scene, from what it says on the way."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from runtime.daemon.item import shown
from runtime.daemon.pipe import Message
from runtime.daemon.scene import ClaimedScene

_STAGES = {"validated": "first rows", "progress": "network", "staged": "publish"}
"""What follows a message; until the first one, the scene is hashed and opened."""


class AtWork:
    """One attempt at a scene. Stages are called as in the latency record."""

    def __init__(self, scene: ClaimedScene) -> None:
        self._scene = scene
        self._begun_utc = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._begun_s = time.monotonic()
        self._stage = "open"
        self._network_s: tuple[float, int] | None = None
        """Monotonic time of the first tiles, and how many those were."""
        self._done = self._of = 0

    def hear(self, message: Message) -> None:
        event = message["event"]
        if event == "progress" and not message["of"]:
            return  # bytes that are hashed
        self._stage = _STAGES.get(event, self._stage)
        if event == "progress":
            self._done, self._of = message["tiles"], message["of"]
            self._network_s = self._network_s or (time.monotonic(), self._done)
            if self._done >= self._of:
                self._stage = "finish"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: `share` of the tiles, 0 to 1; `eta_s` until the last of them, None while nobody knows."""
        return {
            "job": self._scene.job,
            "name": shown(self._scene.name),
            "attempt": self._scene.attempt,
            "begun_utc": self._begun_utc,
            "elapsed_s": round(time.monotonic() - self._begun_s, 1),
            "stage": self._stage,
            "share": round(self._done / self._of, 4) if self._of else None,
            "eta_s": self._eta_s(),
        }

    def _eta_s(self) -> float | None:
        if self._network_s is None or self._done <= self._network_s[1]:
            return None
        since_s, first = self._network_s
        return round((time.monotonic() - since_s) * (self._of - self._done) / (self._done - first), 1)
