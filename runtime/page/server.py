"""The status page on the loopback or on a Unix socket: who may ask for what, and in which words.

Nothing of it comes from elsewhere, no cookie is set, and what changes something needs the token in its body: so another
site that a browser has open can neither read it (the Host is looked at, against DNS rebinding) nor act through it.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import re
import socket
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from runtime.daemon.bounded_server import BoundedServer
from runtime.page import markup
from runtime.page.content import DECISIONS, Content, Forbidden, NotThere
from sarwater.errors import SarwaterError

log = logging.getLogger("sarwater.watch")

_FILES = Path(__file__).parent
_STATIC = {"/style.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"}
_HTML = "text/html; charset=utf-8"
_HOSTS = ("localhost", "127.0.0.1", "::1")
_MOST_BODY_BYTES = 4096
_BLOCK_BYTES = 1 << 18
_SCENE = re.compile(r"/scene/(\d{1,15})(?:/(thumbnail|product|requeue|drop)(?:/([^/]+))?)?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageServer(BoundedServer):
    """`at` is a port of the loopback, or the path of a Unix socket, which it makes and removes. Raises OSError."""

    connections = 16
    connection_s = 30.0

    def __init__(self, at: int | Path, content: Content) -> None:
        self.content = content
        self._socket = at if isinstance(at, Path) else None
        self._is_ours = False
        if self._socket is None:
            super().__init__(("127.0.0.1", at), _Handler)
            return
        self.address_family = socket.AF_UNIX
        with contextlib.suppress(FileNotFoundError):  # what a daemon left that was killed: there is only one
            if stat.S_ISSOCK(self._socket.lstat().st_mode):
                self._socket.unlink()
        super().__init__(str(self._socket), _Handler)

    def server_bind(self) -> None:
        if self._socket is None:
            super().server_bind()
            return
        before = os.umask(0o117)  # for owner and group
        try:
            self.socket.bind(str(self._socket))
        finally:
            os.umask(before)
        self._is_ours = True
        self.server_name, self.server_port = "localhost", 0

    def server_close(self) -> None:
        super().server_close()
        if self._socket is not None and self._is_ours:
            self._socket.unlink(missing_ok=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer
    timeout = PageServer.connection_s
    server_version, sys_version = "sarwater", ""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, how: Any) -> None:
        try:
            self._check_host()
            how(urlsplit(self.path).path)
        except NotThere:
            self._say(404, "There is nothing here.")
        except Forbidden as error:
            self._say(403, str(error))
        except SarwaterError as error:
            self._say(409, str(error))
        except sqlite3.Error as error:
            self._say(503, f"The ledger cannot be read just now ({error}).")
        except ConnectionError:
            raise
        except Exception:
            log.exception("the status page failed")
            self._say(500, "This page failed; the log of the daemon says why.")

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        try:
            name = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        except ValueError:
            name = None
        if name not in _HOSTS:
            raise Forbidden("expected localhost as the host")

    def _get(self, path: str) -> None:
        content = self.server.content
        if path == "/":
            self._send(200, content.overview().encode(errors="replace"), _HTML)
        elif path == "/status.json":
            body = json.dumps(content.status(), ensure_ascii=False).encode(errors="replace")
            self._send(200, body, "application/json")
        elif path in _STATIC:
            self._send(200, (_FILES / path[1:]).read_bytes(), _STATIC[path])
        else:
            job, what, name = self._scene(path)
            if what is None:
                self._send(200, content.scene(job).encode(errors="replace"), _HTML)
            elif what == "thumbnail" and name is None:
                self._send(200, content.thumbnail(job), "image/png")
            elif what == "product" and name is not None:
                self._send_product(job, unquote(name, errors="surrogateescape"))
            else:
                raise NotThere(path)

    def _post(self, path: str) -> None:
        job, what, name = self._scene(path)
        if what not in DECISIONS or name is not None:
            raise NotThere(path)
        self._check_origin()
        length = self.headers.get("Content-Length", "")
        kind = self.headers.get_content_type()
        if not re.fullmatch(r"\d{1,6}", length) or int(length) > _MOST_BODY_BYTES:
            raise Forbidden("expected a form of a few bytes")
        if kind != "application/x-www-form-urlencoded":
            raise Forbidden("expected a form")
        fields = parse_qs(self.rfile.read(int(length)).decode(errors="replace"), max_num_fields=4)
        self.server.content.decide(job, what, fields.get("token", [""])[0])
        log.info("status page: job %d: %s", job, what)
        self._send(303, b"", _HTML, {"Location": f"/scene/{job}"})

    def _check_origin(self) -> None:
        """Of a browser: it says which site a form comes from."""
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none") or origin not in (None, f"http://{self.headers['Host']}"):
            raise Forbidden("that came from another site")

    def _scene(self, path: str) -> tuple[int, str | None, str | None]:
        match = _SCENE.fullmatch(path)
        if match is None:
            raise NotThere(path)
        return int(match[1]), match[2], match[3]

    def _send_product(self, job: int, name: str) -> None:
        with self.server.content.product(job, name) as file:
            length = os.fstat(file.fileno()).st_size
            attached = f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
            self._head(200, "application/octet-stream", length, {"Content-Disposition": attached})
            if self.command == "HEAD":
                return
            while block := file.read(_BLOCK_BYTES):
                self.wfile.write(block)
                self.server.prolong(self.request)

    def _say(self, status: int, why: str) -> None:
        live = f'<h1>{status}</h1><p>{markup.text(why)}</p><p><a href="/">To the first page</a></p>'
        self._send(status, markup.document(f"{status} - sarwater", live).encode(errors="replace"), _HTML)

    def _send(self, status: int, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self._head(status, kind, len(body), more or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **_HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself: a request that is none."""
        self.close_connection = True
        self._say(int(code), "That is no request that this page knows.")

    def address_string(self) -> str:
        return "a client"  # of a Unix socket, which has no address

    def log_message(self, format: str, *arguments: Any) -> None:
        """Somebody who looks is no news."""


def serve_page(at: int | Path, content: Content) -> PageServer | None:
    """Best effort: an address in use costs the page, never the station."""
    try:
        server = PageServer(at, content)
        server.start("page")
    except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
        log.error("%s: no status page there (%s)", at, error)
        return None
    return server
