"""Whatever lies in the inbox: it can only cost itself. One real daemon, everything in one inbox, one sound scene."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.daemon.ledger import Status
from tests.torture.station import Station, until
from tests.torture.strange import put_strange_things, put_together, restless

LATIN_1 = os.fsdecode(b"caf\xe9.tif")
CP949 = os.fsdecode("한강_홍수.tif".encode("cp949"))


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path, max_input_bytes=4_000_000)
    yield station
    put_together(station.incoming)


@pytest.mark.timeout(1800)
def test_nothing_in_one_inbox_stops_the_daemon_or_the_scenes_behind(station: Station) -> None:
    strange = put_strange_things(station.incoming, station.scene(0))
    sound = {name: station.drop(name, seed) for seed, name in enumerate(["0-first.tif", "zz-last.tif", "한강.tif"], 1)}
    with restless(station.incoming, station.scene(99)) as moving, station.start() as daemon:
        until(lambda: station.published_all(dict.fromkeys(sound, b"")), 1200)
        station.drop("zzz-later.tif", 9)
        until(lambda: station.published_all({"zzz-later.tif": b""}), 300)
        until(lambda: "growing.tif" in station.reasons(), 300)
        time.sleep(1.5)  # three more scans
        assert daemon.process.poll() is None
        assert daemon.terminate(60) == 0
    put_together(station.incoming)
    again = station.drain()
    assert again.returncode in (0, 1), again.stderr
    assert "Traceback" not in station.log + again.stderr
    rows = {row.name: row for row in station.rows()}
    assert {LATIN_1, CP949} <= {name for name, row in rows.items() if row.status is Status.PUBLISHED}
    assert not [name for name, row in rows.items() if row.failures or row.worker_deaths]
    assert len(strange) + len(moving) >= 50
    assert station.reasons()["growing.tif"] == "scene_unsafe"
    assert {rows[name].status for name in ("hard.tif", "hard-2.tif")} == {Status.PUBLISHED, Status.DUPLICATE}
    times = ("before-1970.tif", "in-2200.tif", "in-3000.tif")
    assert {rows[name].status for name in times} == {Status.PUBLISHED}
    special = ("socket.tif", "dangling.tif", "outside.SAFE", "fifo.tif", "link.tif", "loop.tif")
    assert {rows[name].status for name in special} == {Status.IGNORED}
    assert station.reasons()["zero.tif"] == "scene_empty"
    lines = station.log.splitlines()
    assert not [line for line in lines if line.startswith("forged")]
    assert "\x1b" not in station.log


def test_a_scene_that_changes_whenever_it_is_worked_on_settles_longer_each_time(tmp_path: Path) -> None:
    station = Station(tmp_path, settle_s=0.1)
    path = station.drop("restless.tif", 1)
    with path.open("r+b") as file:
        over = threading.Event()

        def write() -> None:
            while not over.wait(0.02):
                if not path.exists():
                    os.utime(file.fileno())

        writer = threading.Thread(target=write)
        writer.start()
        station.drop("still.tif", 2)
        done = station.drain()
        over.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("back in the inbox to settle") == 3
    assert "restless.tif: not complete yet" in done.stderr
    assert station.published() == ["still.tif"]
    assert station.drain().returncode == 0
    assert station.published() == ["restless.tif", "still.tif"]
