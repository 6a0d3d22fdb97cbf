"""An S3 server on a loopback port: moto's, one request at a time, with faults where a test wants them.

moto honours If-None-Match, but looks and writes in two steps: one request at a time makes them one, as in a real store.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
Fault = Callable[[int, dict[str, Any]], str | None]
"""Called with a request's number and environment: status and code of an error (`503 SlowDown`), `cut` (before anything
is done), `lost` (done, but the answer is cut off), `half` (cut off within), `silent` (no answer), or None."""
_SILENT_S = 1.0


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: a line for each request is too much, and a connection that is cut is what a test wants."""


class ObjectStore:
    """A running server."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.fault: Fault | None = None
        self.seen: list[tuple[str, str]] = []
        """(method, path) of every request."""
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="s3", daemon=True).start()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            number = len(self.seen)
            self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            fault = self.fault(number, environ) if self.fault else None
        if fault == "silent":
            time.sleep(_SILENT_S)
            return _cut(environ, start)
        with self._lock:
            if fault == "cut":
                return _cut(environ, start)
            if fault and fault[0].isdecimal():
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start(fault, [("Content-Type", "application/xml")])
                return [f"<Error><Code>{fault.split()[1]}</Code><Message>by a test</Message></Error>".encode()]
            body = b"".join(self._app(environ, start))
            if fault == "half" and len(body) > 1:
                return _half(environ, body)
            return _cut(environ, lambda *_: None) if fault in ("lost", "half") else [body]

    def keys(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _half(environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def _cut(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    start("200 OK", [])
    return [b""]


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    store = ObjectStore()
    try:
        yield store
    finally:
        store.close()
