"""Who is told things: a web server, a mail server and a broker, real ones that note what they get."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


@dataclass
class WebServer:
    """`answer` gives the status for each POST, which may depend on how many came before."""

    url: str
    posts: list[Post] = field(default_factory=list)
    answer: Callable[[int], int] = lambda _number: 204


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    receiver = WebServer("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.answer(len(receiver.posts))
            receiver.posts.append(Post(self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("Location", receiver.url)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()


@dataclass
class MailServer:
    url: str
    mails: list[Message] = field(default_factory=list)


@contextlib.contextmanager
def mail_server() -> Iterator[MailServer]:
    """As much of SMTP (RFC 5321) as one mail needs."""
    receiver = MailServer("")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            for line in self.rfile:
                match line.split()[0].upper().decode():
                    case "DATA":
                        self.say("354 go on")
                        lines = list(iter(self.rfile.readline, b".\r\n"))
                        receiver.mails.append(message_from_bytes(b"".join(lines)))
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 fine")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"smtp://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()


@contextlib.contextmanager
def broker(folder: Path, *more: str) -> Iterator[str]:
    """mosquitto, with lines of its configuration; skips where it is not installed."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("needs mosquitto (Debian: mosquitto)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "mosquitto.conf").write_text("\n".join([f"listener {port} 127.0.0.1", *more, ""]))
    process = subprocess.Popen([program, "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(3000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
