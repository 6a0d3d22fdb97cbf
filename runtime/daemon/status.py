"""The station at a glance, as JSON values: of its health file, its ledger and its latency log, which are only read."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runtime.daemon.health import SILENT_S, read_health
from runtime.daemon.item import shown
from runtime.daemon.latency_tail import LatencyTail
from runtime.daemon.ledger import CLAIMED, FILE_NAME, WAITING, Ledger, Row, Status
from sarwater.errors import UsageError

FORMAT = "sarwater-status/1"
_ENDED = (Status.PUBLISHED, Status.DUPLICATE, Status.QUARANTINED)


class StationView:
    """What can be seen of the daemon whose state folder this is, while it runs and while it does not.

    Raises UsageError where there is no ledger, and what `Ledger` raises.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        with self.ledger() as ledger:
            folders = ledger.folders()
        self._health = folders.get("health", state / "health.json")
        self.latency = LatencyTail(folders.get("latency", state / "latency.jsonl"))

    def ledger(self) -> Ledger:
        file = self.state / FILE_NAME
        if not os.path.lexists(file):
            raise UsageError(f"{file}: no such ledger; expected the state folder of a daemon")
        return Ledger(file, read_only=True)

    def status(self, shown_rows: int = 10) -> dict[str, Any]:
        """All that `sarwater status` and the status page show; lists have at most `shown_rows` entries."""
        self.latency.read()
        with self.ledger() as ledger:
            counts, folders = ledger.counts(), ledger.folders()
            pending = ledger.rows(*CLAIMED, *WAITING, limit=shown_rows)
            last = ledger.latest(shown_rows, *_ENDED)
            quarantine = ledger.latest(shown_rows, Status.QUARANTINED)
            outbox = ledger.outbox.waiting()
            reasons, oldest_utc = ledger.quarantine_reasons(), ledger.oldest_pending_utc()
        return {
            "format": FORMAT,
            "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "state_folder": shown(str(self.state)),
            **self._daemon(),
            "queue": {
                "waiting": sum(counts[status] for status in WAITING),
                "claimed": sum(counts[status] for status in CLAIMED),
                "oldest_s": _age_s(oldest_utc),
                "scenes": [self._row(row) for row in pending],
            },
            "last": [self._row(row) for row in last],
            "quarantine": {
                "scenes": [self._row(row) for row in quarantine],
                "count": counts[Status.QUARANTINED],
                "reasons": reasons,
            },
            "outbox": {name: {"waiting": count, "error": error} for name, (count, error) in outbox.items()},
            "day": _day(self.latency.totals_s()),
            "disk": _disk({name: folders[name] for name in ("incoming", "outgoing") if name in folders}, self.state),
        }

    def _daemon(self) -> dict[str, Any]:
        """`state` is the daemon's own word; down where none runs, silent where it shows no life."""
        health = read_health(self._health)
        found = {key: (health or {}).get(key) for key in ("state", "why", "since_utc", "model", "scene", "note", "pid")}
        if not is_running(self.state):
            return {**found, "state": "down", "why": "no daemon runs", "scene": None, "note": "", "pid": None}
        if health is None:
            return {**found, "state": "silent", "why": f"it wrote no {self._health}"}
        if health["age_s"] > SILENT_S:
            age = "since the machine started" if math.isinf(health["age_s"]) else f"for {seconds(health['age_s'])}"
            return {**found, "state": "silent", "why": f"no sign of life {age}", "scene": None}
        return found

    def _row(self, row: Row) -> dict[str, Any]:
        record = self.latency.latest(row.id) if row.status is Status.PUBLISHED else None
        return {
            "job": row.id,
            "name": shown(row.name),
            "status": row.status.value,
            "age_s": _age_s(row.finished_utc or row.seen_utc),
            "size_bytes": row.size_bytes,
            "priority": row.priority,
            "attempts": row.attempts,
            "reason": row.reason,
            "message": shown(row.message) if row.message else None,
            "mask": shown(row.mask) if row.mask and row.status is Status.PUBLISHED else None,
            "total_s": record and record.get("total_s"),
            "water_km2": record and record.get("water_km2"),
        }


def is_running(state: Path) -> bool:
    """Does a daemon hold the state folder? One that starts in this very moment waits a few milliseconds for us."""
    try:
        with (state / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or no permission: then the ledger could not be read either
        return False
    return False


def seconds(value: float | None) -> str:
    """`4.2 s`, `3 min`, `2 h 05 min`, `4 d`."""
    if value is None:
        return ""
    if value < 100:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes = round(value / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = round(value / 3600)
    return f"{minutes // 60} h {minutes % 60:02d} min" if hours < 48 else f"{round(value / 86400)} d"


def size(value: float) -> str:
    """`12.3 GB`, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _day(totals_s: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(totals_s)
    return {"published": len(ordered), "p50_s": _percentile(ordered, 50), "p95_s": _percentile(ordered, 95)}


def _percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The nearest rank: a value that was measured."""
    return round(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)], 3) if ordered else None


def _disk(folders: dict[str, Path], state: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, folder in {**folders, "state": state}.items():
        try:
            status = os.statvfs(folder)
        except OSError as error:
            found.append({"folder": name, "path": shown(str(folder)), "error": error.strerror})
            continue
        free, whole = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
        found.append({"folder": name, "path": shown(str(folder)), "free_bytes": free, "size_bytes": whole})
    return found


def _age_s(utc: str | None) -> float | None:
    """By the wall clock, which may have been set back."""
    if utc is None:
        return None
    return max(0.0, round(time.time() - datetime.fromisoformat(utc).timestamp(), 1))
