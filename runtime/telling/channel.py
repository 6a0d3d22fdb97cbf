"""Who is told what: the settings of a channel, a table `[[tell]]` in the daemon's file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from sarwater.record import Record

Event = Literal["published", "quarantined", "paused", "resumed", "rolled_back"]
SCHEMES = ("https", "http", "mqtts", "mqtt", "mailto", "command", "s3")


class Channel(BaseModel):
    """Somebody who is told, at least once, of each event; no failure of theirs delays a scene."""

    model_config = Record.model_config

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    """What logs and metrics call it; undelivered messages are kept under it."""
    to: str
    """`https://HOST/PATH` (POST), `mqtts://USER@HOST/TOPIC`, `mailto:A@B,C@D`, `command:/PROGRAM ARGUMENT...`, or
    `s3://BUCKET/PREFIX`, which gets the products themselves; `http` and `mqtt` are without encryption."""
    events: tuple[Event, ...] = ("published", "quarantined")
    """What it is told of."""
    format: Literal["geojson", "cap"] = "geojson"
    """What it gets: the notification, or a draft of a public alert (CAP 1.2), which `sarwater alert` completes; that is
    for `published` alone."""
    secret_file: Path | None = None
    """File with the secret: what signs a POST, the password of the broker or of the mail server."""
    links: str = ""
    """URL under which the outgoing folder is served, for the links of the message; none means file URLs."""
    server: str = "smtp://localhost:25"
    """Of mail: `smtp://`, `smtp+starttls://` or `smtps://`, with USER@ where it wants a password."""
    sender: str = "sarwater@localhost"
    """Of mail: the address it comes from."""
    timeout_s: float = Field(10.0, gt=0, le=300)
    """Longest time for one attempt."""
    retry_first_s: float = Field(5.0, gt=0)
    """Wait before the second attempt; doubles with each further one, up to `retry_cap_s`, with jitter."""
    retry_cap_s: float = Field(900.0, gt=0)
    """Longest wait between two attempts."""
    keep_s: float = Field(7 * 86400.0, gt=0)
    """Age at which a message that could not be delivered is given up."""

    @field_validator("to")
    @classmethod
    def _complete(cls, value: str) -> str:
        if any(character in value for character in "\r\n\0"):
            raise ValueError("expected one line")
        url = urlsplit(value)
        _ = url.port  # ValueError for one that is none
        if url.scheme not in SCHEMES:
            raise ValueError(f"expected {', '.join(f'{scheme}:' for scheme in SCHEMES)} at its beginning")
        if url.password is not None or (url.username and url.scheme.startswith("http")):
            raise ValueError("expected no password in it: that is for secret_file")
        if url.scheme in ("https", "http", "mqtts", "mqtt", "s3") and not url.hostname:
            raise ValueError(f"expected {url.scheme}://HOST/...")
        if url.scheme.startswith("mqtt") and not url.path.strip("/"):
            raise ValueError(f"expected {url.scheme}://HOST/TOPIC")
        if url.scheme == "mailto" and not all("@" in address for address in url.path.split(",")):
            raise ValueError("expected mailto:NAME@HOST")
        if url.scheme == "command" and not (value.removeprefix("command:") and shlex.split(url.path)[:1]):
            raise ValueError("expected command:/PROGRAM ARGUMENT...")
        return value

    @model_validator(mode="after")
    def _files_for_a_bucket(self) -> Channel:
        if self.url.scheme == "s3" and self.links:
            raise ValueError("links: expected none for s3://, which gets the files themselves")
        return self

    @field_validator("server")
    @classmethod
    def _mail_server(cls, value: str) -> str:
        url = urlsplit(value)
        _ = url.port
        if url.scheme not in ("smtp", "smtp+starttls", "smtps") or not url.hostname or url.password is not None:
            raise ValueError("expected smtp://HOST, smtp+starttls://HOST or smtps://HOST")
        return value

    @model_validator(mode="after")
    def _of_masks(self) -> Channel:
        if self.format == "cap" and self.events != ("published",):
            raise ValueError('expected events = ["published"] with format = "cap"')
        return self

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.to)

    def secret(self) -> bytes:
        """Without white space at its ends; empty where there is none. Raises OSError."""
        return self.secret_file.read_bytes().strip() if self.secret_file else b""
