"""The outbox and its delivery, over a real daemon and a real web server: each event at least once, whatever dies, and
never in a scene's way."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from runtime.daemon.metrics import Metrics
from runtime.telling.channel import Channel
from runtime.telling.post import Post
from tests.support.receivers import WebServer, web_server
from tests.torture.station import Station, until


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def station_that_tells(folder: Path, *urls: str, **more: object) -> Station:
    channels = [
        {"name": f"to-{number}", "to": url, "retry_first_s": 0.1, "retry_cap_s": 0.2, **more}
        for number, url in enumerate(urls)
    ]
    return Station(folder, tell=channels)


def told(server: WebServer) -> list[tuple[str, str]]:
    found = [post.document["properties"] for post in server.posts]
    return [(properties["sarwater:event"], properties["sarwater:scene"]) for properties in found]


def test_a_mask_and_a_quarantine_are_told_once_each(tmp_path: Path, server: WebServer) -> None:
    station = station_that_tells(tmp_path, server.url)
    station.drop("good.tif", 1)
    station.drop("bad.tif", b"not a raster")
    assert station.drain().returncode == 1
    assert sorted(told(server)) == [("published", "good.tif"), ("quarantined", "bad.tif")]
    (published,) = (post.document for post in server.posts if "published" in post.headers["X-Sarwater-Event"])
    assert [link["href"].rpartition("/")[2] for link in published["links"]] == ["good_water.tif", "good_water.json"]
    assert published["geometry"]["type"] == "Polygon"
    assert station.drain().returncode == 0
    assert len(server.posts) == 2


def test_a_receiver_that_is_away_delays_no_scene_and_is_told_when_it_is_back(tmp_path: Path, server: WebServer) -> None:
    station = station_that_tells(tmp_path, "http://127.0.0.1:1/", server.url)
    server.answer = lambda number: 503 if number < 3 else 200
    with station.start() as daemon:
        for number in range(3):
            station.drop(f"s{number}.tif", number)
        until(lambda: len(station.masks()) == 3)
        until(lambda: {scene for _, scene in told(server)[3:]} == {"s0.tif", "s1.tif", "s2.tif"})
        until(lambda: "to-1: takes messages again" in station.log)
        until(lambda: 'sarwater_told_total{channel="to-1",outcome="delivered"} 3.0' in metrics(station))
        assert daemon.terminate() == 0
    with Ledger(station.state / FILE_NAME, read_only=True) as ledger:
        ((channel, (count, error)),) = ledger.outbox.waiting().items()
    assert (channel, count) == ("to-0", 3)
    assert "Connection refused" in str(error)
    assert station.log.count("to-0: not told") == 1


def metrics(station: Station) -> str:
    return (station.state / "metrics.prom").read_text()


@pytest.mark.timeout(900)
def test_every_mask_is_told_at_least_once_whenever_the_daemon_is_killed(tmp_path: Path, server: WebServer) -> None:
    station = station_that_tells(tmp_path, server.url)
    chance = random.Random(4)
    server.answer = lambda number: 500 if number % 3 == 0 else 200
    contents = {f"s{number}.tif": station.scene(number) for number in range(6)}
    kills = 0
    for name, content in contents.items():
        station.drop(name, content)
    while len(station.masks()) < len(contents) and kills < 3:
        before = len(station.masks())
        with station.start() as daemon:
            until(lambda before=before: len(station.masks()) > before, 250)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
            daemon.kill()
        kills += 1
    server.answer = lambda _: 200
    station.drain(timeout_s=600)
    assert not station.audit(contents)
    assert {scene for _, scene in told(server)} == set(contents)
    ids: dict[str, set[str]] = {}
    for post in server.posts:
        ids.setdefault(post.document["properties"]["sarwater:scene"], set()).add(post.document["id"])
    assert {len(found) for found in ids.values()} == {1}  # told twice, it is the same message
    assert kills > 0


def outbox(folder: Path, *channels: Channel) -> tuple[Ledger, Post]:
    ledger = Ledger(folder / FILE_NAME)
    return ledger, Post(ledger, Metrics(), channels, folder)


def hook(url: str, **more: object) -> Channel:
    return Channel.model_validate({"name": "a", "to": url, "events": ["paused"], "retry_first_s": 0.01, **more})


def test_a_message_that_is_refused_does_not_keep_the_next_one(tmp_path: Path, server: WebServer) -> None:
    server.answer = lambda number: 400 if number == 0 else 200
    ledger, post = outbox(tmp_path, hook(server.url, retry_first_s=0.2))
    with ledger, post:
        ledger.tell("paused", "first")
        ledger.tell("paused", "second")
        ledger.tell("resumed", "which nobody wants")

        def done() -> bool:
            post.turn()
            return not ledger.outbox.waiting()

        until(done)
    messages = [found.document["properties"]["sarwater:message"] for found in server.posts]
    assert sorted(messages[1:]) == ["first", "second"]


def test_what_is_too_old_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger, post = outbox(tmp_path, hook("http://127.0.0.1:1/", keep_s=60))
    with ledger, post:
        ledger.tell("paused", "long ago")
        ledger._db.execute("UPDATE outbox SET created_utc = '2020-01-01T00:00:00.000+00:00'")
        post.turn()
        assert ledger.outbox.waiting() == {}
        assert "1 messages older than 60 s" in caplog.text


def test_a_channel_that_is_configured_no_longer_keeps_its_messages_and_a_new_one_is_told(
    tmp_path: Path, server: WebServer
) -> None:
    ledger, post = outbox(tmp_path, hook("http://127.0.0.1:1/"))
    with ledger, post:
        ledger.tell("paused", "one")
        post.adopt([hook(server.url, name="b")])
        ledger.tell("paused", "two")
        until(lambda: post.turn() is None and len(server.posts) == 1)
        assert list(ledger.outbox.waiting()) == ["a"]


def test_a_ledger_from_before_the_outbox_gets_one_and_is_read_without(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    Ledger(path).close()
    database = sqlite3.connect(path)
    database.executescript("DROP TABLE outbox; PRAGMA user_version = 3;")
    database.close()
    with Ledger(path, read_only=True) as ledger:
        assert ledger.outbox.waiting() == {}
    with Ledger(path) as ledger:
        ledger.outbox.wants = {"paused": ["a"]}
        ledger.tell("paused", "why")
        assert ledger.outbox.waiting() == {"a": (1, None)}


def test_a_reload_takes_new_channels_and_refuses_two_of_a_name(tmp_path: Path, server: WebServer) -> None:
    station = Station(tmp_path)
    settings = tmp_path / "watch.toml"
    settings.write_text("")
    with station.start(f"--config={settings}") as daemon:
        until(lambda: "ready" in station.log)
        settings.write_text(f'[[tell]]\nname = "a"\nto = "{server.url}"\n' * 2)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "'a' is the name of two channels" in station.log)
        settings.write_text(f'[[tell]]\nname = "a"\nto = "{server.url}"\n')
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "new settings are in force" in station.log)
        station.drop("a.tif", 1)
        until(lambda: told(server) == [("published", "a.tif")])
    assert json.loads(server.posts[0].body)["properties"]["sarwater:job"] == 1
    assert [row.status for row in station.rows()] == [Status.PUBLISHED]
