"""The latency records of all scenes, one JSON line each, in a file that is rotated by size."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from runtime.latency import LatencyRecord

log = logging.getLogger("sarwater.watch")


class LatencyLog:
    """Opens the file for each line, so that logrotate may move it at any time. Best effort: a full disk loses lines,
    never scenes."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, record: LatencyRecord) -> None:
        line = json.dumps(record.to_dict(), ensure_ascii=False) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._rotate(len(line))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            log.warning("%s: latency record not written (%s)", self._path, error.strerror)

    def _rotate(self, more_bytes: int) -> None:
        """`x` -> `x.1` -> ... -> `x.<keep>`, where `x` would grow beyond the limit."""
        if not self._max_bytes or not self._path.exists():
            return
        if self._path.stat().st_size + more_bytes <= self._max_bytes:
            return
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._keep + 1))]
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            if newer.exists():
                os.replace(newer, older)
