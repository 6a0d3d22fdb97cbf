"""A loopback port for scrapes.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4).
"""

from __future__ import annotations

import http.server
from collections.abc import Callable
from typing import Any

from runtime.daemon.bounded_server import BoundedServer

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPort(BoundedServer):
    """Serves what `text` gives, at any path. Raises OSError for a port in use."""

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        self.text = text
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = MetricsPort.connection_s
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
