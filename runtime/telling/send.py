"""One attempt to deliver one message, by the kind of channel. Each takes a bounded time."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from runtime.telling import cap
from runtime.telling.bucket import upload
from runtime.telling.channel import Channel
from sarwater.errors import SarwaterError
from sarwater.shown import shown

SIGNATURE = "X-Sarwater-Signature-256"


class NotDelivered(Exception):
    """Why, in a line."""


def send(channel: Channel, event: str, document: dict[str, Any]) -> None:
    """Raises NotDelivered."""
    try:
        _SENDERS[channel.url.scheme](channel, event, document)
    except NotDelivered:
        raise
    except SarwaterError as error:
        raise NotDelivered(str(error)) from error
    except (OSError, ValueError, ArithmeticError, RuntimeError) as error:  # RuntimeError: no more threads
        raise NotDelivered(shown(f"{type(error).__name__}: {error}")[:300]) from error


def payload(channel: Channel, document: dict[str, Any]) -> bytes:
    if channel.format == "cap":
        return cap.draft(document, channel.sender)
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")


def signature(secret: bytes, body: bytes) -> str:
    """`sha256=` and the HMAC of the body in hexadecimal (RFC 2104), as GitHub's webhooks have it."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def _post(channel: Channel, event: str, document: dict[str, Any]) -> None:
    import http.client
    import socket
    import threading

    url, body = channel.url, payload(channel, document)
    headers = {
        "Content-Type": cap.CONTENT_TYPE if channel.format == "cap" else "application/geo+json",
        "User-Agent": "sarwater",
        "X-Sarwater-Event": event,
        "X-Sarwater-Delivery": document["id"],
    }
    if secret := channel.secret():
        headers[SIGNATURE] = signature(secret, body)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=channel.timeout_s)

    def cut() -> None:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)

    limit = threading.Timer(channel.timeout_s, cut)  # the connection's own is for each piece of a trickling answer
    limit.daemon = True
    limit.start()
    try:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            raise NotDelivered(f"it answered {answer.status} {shown(answer.reason)[:80]}")
    except http.client.HTTPException as error:
        raise NotDelivered(shown(f"no answer of a web server ({type(error).__name__})")) from error
    finally:
        limit.cancel()
        connection.close()


def _run(channel: Channel, event: str, document: dict[str, Any]) -> None:
    """The message on its standard input, the main facts in its environment. What it says on stderr is logged."""
    properties = document["properties"]
    facts = {"EVENT": event, "JOB": properties.get("sarwater:job"), "SCENE": properties.get("sarwater:scene")}
    environment = {f"SARWATER_{key}": str(value) for key, value in facts.items() if value is not None}
    process = subprocess.Popen(
        shlex.split(channel.to.removeprefix("command:")),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        process.communicate(payload(channel, document), timeout=channel.timeout_s)
    except subprocess.TimeoutExpired:
        raise NotDelivered(f"not done after {channel.timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise NotDelivered(f"exit code {process.returncode}")


def _publish(channel: Channel, event: str, document: dict[str, Any]) -> None:
    """QoS 1: it counts once the broker has said so."""
    from sarwater.dependencies import require

    client_module = require("paho.mqtt.client", "a channel to an MQTT broker", "`pip install 'sarwater[mqtt]'`")
    url = channel.url
    client = client_module.Client(client_module.CallbackAPIVersion.VERSION2, protocol=client_module.MQTTv5)
    if url.username:
        client.username_pw_set(unquote(url.username), channel.secret().decode())
    if url.scheme == "mqtts":
        client.tls_set()
    client.connect_timeout = channel.timeout_s
    answers: list[str] = []

    def connected(_client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            answers.append(f"the broker refuses ({code})")

    def acknowledged(_client: Any, _data: Any, _number: Any, code: Any, _properties: Any) -> None:
        answers.append(f"the broker refuses the message ({code})" if code.is_failure else "")

    client.on_connect, client.on_publish = connected, acknowledged
    client.connect(url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883))
    client.loop_start()
    try:
        info = client.publish(unquote(url.path.strip("/")), payload(channel, document), qos=1)
        info.wait_for_publish(channel.timeout_s)
        if not info.is_published() or (answers and answers[-1]):
            raise NotDelivered(answers[-1] if answers and answers[-1] else f"no word after {channel.timeout_s:g} s")
    finally:
        client.disconnect()
        client.loop_stop()


def _mail(channel: Channel, event: str, document: dict[str, Any]) -> None:
    import smtplib
    from email.message import EmailMessage
    from urllib.parse import urlsplit

    properties = document["properties"]
    message = EmailMessage()
    scene = properties.get("sarwater:scene")
    message["Subject"] = f"sarwater: {event}{f' {scene}' if scene else ''}"[:200]
    message["From"], message["To"] = channel.sender, ", ".join(unquote(channel.url.path).split(","))
    message["Message-ID"] = f"<{document['id']}@sarwater>"
    message.set_content("".join(f"{line}\n" for line in _lines(event, document)))
    subtype, suffix = ("cap+xml", "cap.xml") if channel.format == "cap" else ("geo+json", "geojson")
    body = payload(channel, document)
    message.add_attachment(body, maintype="application", subtype=subtype, filename=f"{event}.{suffix}")
    url = urlsplit(channel.server)
    kind = smtplib.SMTP_SSL if url.scheme == "smtps" else smtplib.SMTP
    try:
        with kind(url.hostname or "", url.port or 0, timeout=channel.timeout_s) as server:
            if url.scheme == "smtp+starttls":
                server.starttls()
            if url.username:
                server.login(unquote(url.username), channel.secret().decode())
            server.send_message(message)
    except smtplib.SMTPException as error:
        raise NotDelivered(shown(f"{type(error).__name__}: {error}")[:300]) from error


def _lines(event: str, document: dict[str, Any]) -> list[str]:
    facts: Mapping[str, Any] = {
        name.removeprefix("sarwater:"): value
        for name, value in document["properties"].items()
        if name.startswith("sarwater:") and value is not None
    }
    links = [f"{link['rel']:<12} {link['href']}" for link in document["links"]]
    return [event, "", *(f"{name:<12} {value}" for name, value in facts.items()), "", *links]


_SENDERS: Mapping[str, Callable[[Channel, str, dict[str, Any]], None]] = {
    "https": _post,
    "http": _post,
    "mqtts": _publish,
    "mqtt": _publish,
    "mailto": _mail,
    "command": _run,
    "s3": upload,
}
