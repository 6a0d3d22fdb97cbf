"""What systemd is told: readiness, status and watchdog pings (sd_notify(3)); nothing where it does not listen."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Systemd:
    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s: float | None = None
        """Time within which a ping is expected."""
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()) and environment.get("WATCHDOG_USEC"):
            self.watchdog_s = int(environment["WATCHDOG_USEC"]) / 1e6

    def tell(self, *lines: str) -> None:
        """`READY=1`, `STATUS=...`, `STOPPING=1`, `WATCHDOG=1`. Best effort: who does not listen misses it."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.sendto("\n".join(lines).encode(), self._address)
