"""Where the time of a scene went: a stage clock for several threads, and the record that travels with the products."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

FORMAT = "sarwater-latency/1"

MOMENTS = ("first_seen", "complete", "claimed", "validated", "first_tile", "last_tile", "written", "synced", "visible")

_STAGES = {
    "complete": "settle",
    "claimed": "queue",
    "validated": "open",
    "first_tile": "first rows",
    "last_tile": "network",
    "written": "finish",
    "synced": "sync",
    "visible": "publish",
}
"""What the time until a moment was spent on. Reading, network and writing run side by side in `network`."""


class StageClock:
    """Moments and stage durations of one scene. Safe to use from several threads.

    Stages overlap (reading, inference and writing run side by side), so their seconds add up to more than the total.
    Durations come from the monotonic clock alone; UTC is for people and never subtracted.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, utc: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._utc = utc
        self._lock = threading.Lock()
        self._moments: dict[str, Moment] = {}
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`."""
        start = self._monotonic()
        try:
            yield
        finally:
            self.add(name, self._monotonic() - start)

    def add(self, name: str, seconds: float) -> None:
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def mark(self, moment: str) -> None:
        """Note that `moment` (one of MOMENTS) is now; only its first time counts. Raises ValueError for other names."""
        if moment not in MOMENTS:
            raise ValueError(f"moment {moment!r}, expected one of {', '.join(MOMENTS)}")
        now = Moment(_iso(self._utc()), self._monotonic())
        with self._lock:
            self._moments.setdefault(moment, now)

    @property
    def moments(self) -> dict[str, Moment]:
        with self._lock:
            return dict(self._moments)

    def seconds(self, *stages: str) -> float:
        with self._lock:
            return sum(self._seconds.get(stage, 0.0) for stage in stages)


@dataclass(frozen=True)
class Moment:
    utc: str
    monotonic_s: float
    """On this machine's monotonic clock, which all its processes share and which a reboot resets."""


@dataclass
class LatencyRecord:
    """One scene's record, as docs/reliability.md lists it. None where a value does not apply or is not known yet.

    settle_s (first seen -> complete) is policy, not speed, so total_s starts at `complete`; where nobody watched a
    folder, total_s starts when the scene is taken in hand (`claimed`). read_s: decoding. h2d_s, d2h_s: copies to and
    from a GPU. infer_s: the network had work. post_s: gather, blend, threshold. write_s: encoding the products.
    """

    job: str | None = None
    key: str | None = None
    input: str | None = None
    input_bytes: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    dtype: str | None = None
    found: str | None = None
    """How the scene was noticed: `event`, `scan`, or None for one named on the command line."""
    moments: dict[str, Moment] = field(default_factory=dict)
    settle_s: float | None = None
    queue_s: float | None = None
    read_s: float | None = None
    h2d_s: float | None = None
    infer_s: float | None = None
    d2h_s: float | None = None
    post_s: float | None = None
    write_s: float | None = None
    publish_s: float | None = None
    total_s: float | None = None
    upsampling_factor: int | None = None
    """How often the network saw each pixel along each axis; `tiles` are those of the upsampled scene."""
    tiles: int | None = None
    tiles_skipped: int | None = None
    batch: int | None = None
    attempts: int | None = None
    backend: str | None = None
    device: str | None = None
    model: str | None = None
    precision: str | None = None
    engine_sha256: str | None = None
    mask_sha256: str | None = None
    land_px: int | None = None
    water_px: int | None = None
    shadow_px: int | None = None
    nodata_px: int | None = None
    water_km2: float | None = None
    """None where the ground is unknown."""
    notes: list[str] = field(default_factory=list)
    """What whoever uses the products should know, in plain words."""
    outcome: str | None = None
    error: str | None = None
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LatencyRecord:
        """Raises TypeError for fields this version does not know."""
        moments = {name: Moment(**moment) for name, moment in document.get("moments", {}).items()}
        return cls(**{**document, "moments": moments})

    def add_moments(self, moments: Mapping[str, Moment]) -> None:
        """Merge `moments` in and derive the durations between them."""
        self.moments.update(moments)
        self.settle_s = self._between("first_seen", "complete")
        self.queue_s = self._between("complete", "claimed")
        self.publish_s = self._between("synced", "visible")
        start = next((name for name in ("complete", "claimed") if name in self.moments), "validated")
        self.total_s = self._between(start, "visible")

    @property
    def stages_s(self) -> dict[str, float]:
        """Wall-clock time from one moment to the next, for those that are known; they add up to the time between the
        first and the last."""
        names = [name for name in MOMENTS if name in self.moments]
        found = {}
        for start, end in itertools.pairwise(names):
            seconds = self._between(start, end)
            assert seconds is not None
            found[_STAGES.get(end, end)] = seconds
        return found

    def _between(self, start: str, end: str) -> float | None:
        if start not in self.moments or end not in self.moments:
            return None
        return round(self.moments[end].monotonic_s - self.moments[start].monotonic_s, 6)


def _iso(timestamp: float) -> str:
    text = datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
