"""One message to one receiver, of each kind: what arrives, and what counts as not delivered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.telling.channel import Channel
from runtime.telling.notification import notification
from runtime.telling.send import SIGNATURE, NotDelivered, send
from tests.support.receivers import broker, mail_server, web_server

DOCUMENT: dict[str, Any] = {
    "id": "0f6b7c0e-0000-4000-8000-000000000001",
    "type": "Feature",
    "geometry": None,
    "properties": {"sarwater:event": "published", "sarwater:job": 7, "sarwater:scene": "한강\\x0a.tif"},
    "links": [{"rel": "canonical", "href": "file:///out/a_water.tif"}],
}


def channel(to: str, **more: Any) -> Channel:
    return Channel(name="test", to=to, **more)


def test_a_post_is_signed_and_says_which_event_and_delivery_it_is(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    with web_server() as server:
        send(channel(f"{server.url}/in?x=1", secret_file=tmp_path / "secret"), "published", DOCUMENT)
        (post,) = server.posts
    assert (post.path, post.document) == ("/in?x=1", DOCUMENT)
    assert post.headers[SIGNATURE] == "sha256=" + hmac.new(b"hush", post.body, hashlib.sha256).hexdigest()
    assert (post.headers["X-Sarwater-Event"], post.headers["X-Sarwater-Delivery"]) == ("published", DOCUMENT["id"])
    assert post.headers["Content-Type"] == "application/geo+json"


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_only_an_answer_of_2xx_counts(status: int) -> None:
    with web_server() as server:
        server.answer = lambda _: status
        with pytest.raises(NotDelivered, match=str(status)):
            send(channel(server.url), "published", DOCUMENT)
        assert len(server.posts) == 1  # and nothing is followed


def test_a_receiver_that_is_not_there_or_never_ends_its_answer_costs_the_timeout_alone() -> None:
    def trickle() -> None:
        with listener.accept()[0] as peer:
            for _ in range(600):
                try:
                    peer.sendall(b"H")
                except OSError:
                    return
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, daemon=True).start()
        with pytest.raises(NotDelivered):
            send(channel(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.5), "published", DOCUMENT)
        port = listener.getsockname()[1]
    with pytest.raises(NotDelivered, match="Refused"):
        send(channel(f"http://127.0.0.1:{port}"), "published", DOCUMENT)


def test_a_secret_that_cannot_be_read_is_not_delivered_and_says_so(tmp_path: Path) -> None:
    with web_server() as server, pytest.raises(NotDelivered, match="FileNotFoundError"):
        send(channel(server.url, secret_file=tmp_path / "gone"), "published", DOCUMENT)


def test_a_command_gets_the_message_and_the_main_facts_and_no_shell(tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text(
        "import os, sys, pathlib\n"
        "facts = [os.environ[f'SARWATER_{n}'] for n in ('EVENT', 'JOB', 'SCENE')]\n"
        "pathlib.Path(sys.argv[1]).write_text('\\n'.join([*facts, *sys.argv[2:], sys.stdin.read()]))\n"
    )
    send(channel(f"command:{sys.executable} {script} {tmp_path}/told 'a b' $(id)"), "published", DOCUMENT)
    told = (tmp_path / "told").read_text().split("\n")
    assert told[:5] == ["published", "7", "한강\\x0a.tif", "a b", "$(id)"]
    assert json.loads(told[-1]) == DOCUMENT


@pytest.mark.parametrize(
    ("command", "why"), [("/bin/false", "exit code 1"), ("/nowhere/x", "FileNotFound"), ("/bin/sleep 100", "not done")]
)
def test_a_command_that_fails_or_hangs_is_not_delivered(command: str, why: str) -> None:
    with pytest.raises(NotDelivered, match=why):
        send(channel(f"command:{command}", timeout_s=0.3), "published", DOCUMENT)


def test_a_mail_has_the_facts_in_words_and_the_message_attached() -> None:
    with mail_server() as server:
        send(channel("mailto:ops@a.example,duty@b.example", server=server.url), "quarantined", DOCUMENT)
        (mail,) = server.mails
    assert mail["To"] == "ops@a.example, duty@b.example"
    assert "quarantined" in str(mail["Subject"])
    text, attached = mail.get_payload()
    assert "file:///out/a_water.tif" in text.get_payload(decode=True).decode()
    assert json.loads(attached.get_payload(decode=True)) == DOCUMENT


def test_a_message_reaches_who_subscribes_at_a_broker(tmp_path: Path) -> None:
    mqtt = pytest.importorskip("paho.mqtt.client")
    got: queue.Queue[Any] = queue.Queue()
    with broker(tmp_path, "allow_anonymous true") as url:
        listener = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        subscribed = threading.Event()
        listener.on_message = lambda _client, _data, message: got.put(message)
        listener.on_subscribe = lambda *_: subscribed.set()
        listener.connect("127.0.0.1", int(url.rpartition(":")[2]))
        listener.subscribe("cache/a/wis2/#", qos=1)
        listener.loop_start()
        assert subscribed.wait(60)
        send(channel(f"{url}/cache/a/wis2/kr-sar/water", timeout_s=60), "published", DOCUMENT)
        message = got.get(timeout=60)
        listener.loop_stop()
    assert (message.topic, message.qos) == ("cache/a/wis2/kr-sar/water", 1)
    assert json.loads(message.payload) == DOCUMENT


def test_a_broker_that_refuses_is_not_delivered(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    with broker(tmp_path, "allow_anonymous false") as url, pytest.raises(NotDelivered):
        send(channel(f"{url}/x", timeout_s=2), "published", DOCUMENT)
    with pytest.raises(NotDelivered, match="Refused"):
        send(channel(f"{url}/x", timeout_s=2), "published", DOCUMENT)


@pytest.mark.parametrize(
    "to",
    [
        *("", "ops", "ftp://a/b", "https://", "https://h:x/", "http://h\r\nX: y", "mqtt://host", "mqtt://host/"),
        *(
            "https://u:p@h/",
            "https://u@h/",
            "mqtts://u:p@h/x",
            "mailto:",
            "mailto:ops",
            "command:",
            "command: ",
            "command:'x",
        ),
    ],
)
def test_a_channel_that_leads_nowhere_is_refused(to: str) -> None:
    with pytest.raises((ValidationError, ValueError)):
        channel(to)


def test_the_message_of_a_mask_links_each_product_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a b_water.tif").write_bytes(b"mask")
    item = {"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"sarwater:latency": {"water_km2": 3}}}
    (tmp_path / "a b_water.json").write_text(json.dumps(item))
    body = {
        "id": "x", "event": "published", "time_utc": "2026-11-30T01:02:03.456+00:00", "job": 7, "scene": "a b.tif",
        "mask_key": "k", "products": ["a b_water.json", "a b_water.tif", "gone_water.png"],
    }  # fmt: skip
    document = notification(body, tmp_path, "https://masks.example/today/")
    mask, stac = document["links"]
    assert mask["rel"] == "canonical"
    assert mask["href"] == "https://masks.example/today/a%20b_water.tif"
    assert (mask["type"], mask["length"]) == ("image/tiff; application=geotiff; profile=cloud-optimized", 4)
    assert document["properties"]["integrity"] == mask["integrity"]
    assert hashlib.sha512(b"mask").digest() == base64.b64decode(mask["integrity"]["value"])
    assert stac["rel"] == "item"
    assert document["geometry"] == item["geometry"]
    properties = document["properties"]
    assert (properties["pubtime"], properties["data_id"]) == ("2026-11-30T01:02:03.456Z", "sarwater/k")
    assert properties["sarwater:water_km2"] == 3
    assert notification(body, tmp_path, "")["links"][0]["href"] == (tmp_path / "a b_water.tif").as_uri()
