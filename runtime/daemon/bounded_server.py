"""A web server of the standard library that costs a station nothing, whoever connects: few threads, little time."""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import socketserver
import threading
import time
from typing import Any

log = logging.getLogger("sarwater.watch")

_PAUSE_S = 0.5


class BoundedServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers in threads of its own. Raises OSError for an address in use."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16
    connections = 4
    """Answered at one time; one more is closed at once, and who wanted it asks again."""
    connection_s = 5.0
    """Longest time for a whole request and its answer, however it trickles."""

    def __init__(self, address: Any, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self._since_s: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def start(self, name: str) -> None:
        threading.Thread(target=self.serve_forever, name=name, daemon=True).start()

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE_S)  # without descriptors it would be asked again at once, and for ever
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._since_s) >= self.connections
            if not full:
                self._since_s[request] = time.monotonic()
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def prolong(self, request: Any) -> None:
        """Give a request the whole time again: it shows progress."""
        with self._lock:
            if request in self._since_s:
                self._since_s[request] = time.monotonic()

    def service_actions(self) -> None:
        """Called twice a second: ends what takes too long."""
        oldest_s = time.monotonic() - self.connection_s
        with self._lock:
            for request, since_s in self._since_s.items():
                if since_s < oldest_s:
                    with contextlib.suppress(OSError):  # it is gone already
                        request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since_s.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request failed", exc_info=True)
