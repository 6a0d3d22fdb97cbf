"""What the daemon does now, in a small file: for `sarwater status`, the status page, and whatever else looks at a file.

The ledger says what becomes of scenes; this says what only the running daemon knows. A daemon that is alive renews it
every few seconds, on a full disk, too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runtime.activation import Activation
from runtime.daemon.item import shown
from runtime.daemon.pipe import Message
from sarwater import __version__

log = logging.getLogger("sarwater.watch")

FORMAT = "sarwater-health/1"
SILENT_S = 60.0
"""A file that is older than this speaks of a daemon that hangs or is gone."""
_AGAIN_S = {"working": 1.0}
_IDLE_AGAIN_S = 5.0
_BYTES = 4096
"""Size of the file. It stays the same, so that a full disk has room for it."""
_MOST_BYTES = 1 << 16


class Health:
    """The daemon's own account: `state` is starting, idle, working, paused or stopping; `why` is what it waits for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state, self._why, self._since_utc = "starting", "", _utc()
        self._model: dict[str, Any] | None = None
        self._written_s = 0.0
        self._told = False

    def opened(self, ready: Message, known: Activation | None) -> None:
        """What the worker opened, and what is known of it."""
        self._model = {
            "name": ready["model"],
            "precision": ready["precision"],
            "sha256": ready["model_sha256"],
            "backend": ready["backend"],
            "device": ready["device"],
            "activated_utc": known.activated_utc if known else None,
            "first_scenes_left": known.unchecked if known else 0,
            "rolled_back": shown(known.rolled_back) if known and known.rolled_back else None,
        }

    def tell(self, state: str, why: str = "", scene: dict[str, Any] | None = None, note: str = "") -> None:
        """Write the file where something is new or time has passed. Best effort. `note` is what holds up one scene."""
        new = (state, why) != (self._state, self._why)
        now_s = time.monotonic()
        if not new and now_s < self._written_s + _AGAIN_S.get(state, _IDLE_AGAIN_S):
            return
        if new:
            self._state, self._why, self._since_utc = state, why, _utc()
        self._written_s = now_s
        self._write(
            {
                "format": FORMAT,
                "version": __version__,
                "pid": os.getpid(),
                "state": state,
                "why": shown(why),
                "since_utc": self._since_utc,
                "written_utc": _utc(),
                "boot": _boot(),
                "monotonic_s": round(now_s, 3),
                "model": self._model,
                "scene": scene,
                "note": shown(note),
            }
        )

    def _write(self, document: dict[str, Any]) -> None:
        path = self._path
        content = json.dumps(document, ensure_ascii=False).encode(errors="replace").ljust(_BYTES)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            try:
                with path.open("r+b") as file:  # it has its room
                    file.write(content)
            except OSError:
                if not self._told:
                    log.warning("%s: health not written (%s)", path, error.strerror)
                self._told = True


def read_health(path: Path) -> dict[str, Any] | None:
    """What the daemon last wrote, with `age_s`, how old that is; None where there is nothing of ours."""
    for _ in range(3):  # on a full disk it is written in place
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                document = json.loads(file.read(_MOST_BYTES))
        except OSError:
            return None
        except (ValueError, RecursionError):
            time.sleep(0.01)
            continue
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            return None
        return {**document, "age_s": _age_s(document)}
    return None


def _age_s(document: dict[str, Any]) -> float:
    """By the monotonic clock, which all processes share until the machine starts again."""
    if document.get("boot") != _boot():
        return float("inf")
    return max(0.0, round(time.monotonic() - float(document["monotonic_s"]), 1))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _utc() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
