"""The latest of the latency records, read from the end of a log that grows and is rotated meanwhile."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from runtime.latency import FORMAT

_TAIL_BYTES = 8 << 20
"""Read of each file, from its end: some thousands of scenes."""
_MOST = 5000


class LatencyTail:
    """Call `read` as often as wanted: it reads what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        self._records: deque[dict[str, Any]] = deque(maxlen=_MOST)

    def read(self) -> None:
        """Take in the lines that were added. A log that cannot be read adds none."""
        try:
            found = self._path.stat()
            if not self._inode:
                self._take(self._path.with_name(f"{self._path.name}.1"), -1)
            fresh = found.st_ino != self._inode or found.st_size < self._offset
            self._offset = self._take(self._path, -1 if fresh else self._offset)
            self._inode = found.st_ino
        except OSError:
            return

    def latest(self, job: int) -> dict[str, Any] | None:
        """The last record of a scene."""
        return next((record for record in reversed(self._records) if record.get("job") == str(job)), None)

    def totals_s(self, hours: float = 24) -> list[float]:
        """From a complete input to a visible mask, of those published within the last hours."""
        since = datetime.now(timezone.utc) - timedelta(hours=hours)
        return [record["total_s"] for record in self._records if (at := _visible(record)) and at >= since]

    def _take(self, path: Path, offset: int) -> int:
        """Add the whole lines from `offset` on (-1: of the tail); returns where the next one begins."""
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            start = max(0, path.stat().st_size - _TAIL_BYTES) if offset < 0 else offset
            file.seek(start)
            content = file.read(_TAIL_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        self._records.extend(_records(whole))
        return start + len(whole)


def _records(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # the first of a tail is cut
            continue
        if isinstance(record, dict) and record.get("format") == FORMAT:
            yield record


def _visible(record: dict[str, Any]) -> datetime | None:
    """When its mask became visible; None where it has none."""
    try:
        found = datetime.fromisoformat(record["moments"]["visible"]["utc"].replace("Z", "+00:00"))
        return found if isinstance(record["total_s"], float | int) else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
