"""A loopback port for scrapes that can cost the station nothing, whoever connects: few threads, little time each.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4).
"""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger("sarwater.watch")

_CONNECTIONS = 4
"""Answered at one time; one more is closed at once, and its scraper asks again."""
_CONNECTION_S = 5.0
"""Longest time for a whole request and its answer, however it trickles."""
_PAUSE_S = 0.5
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPort(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves what `text` gives, at any path, from threads of its own. Raises OSError for a port in use."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        self.text = text
        self._since_s: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE_S)  # without descriptors it would be asked again at once, and for ever
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._since_s) >= _CONNECTIONS
            if not full:
                self._since_s[request] = time.monotonic()
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called twice a second: ends what takes too long."""
        oldest_s = time.monotonic() - _CONNECTION_S
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
        log.debug("a scrape failed", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _CONNECTION_S
    server: MetricsPort

    def do_GET(self) -> None:
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", _TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """A scrape every few seconds is no news."""
