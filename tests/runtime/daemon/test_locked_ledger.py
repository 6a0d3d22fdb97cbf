"""A ledger that another process holds, as a forgotten `sqlite3` shell does: the daemon waits, says so, and goes on."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.daemon.damage import holder_of
from runtime.daemon.ledger import FILE_NAME, Ledger
from tests.torture.station import Daemon, Station, until


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def daemon(station: Station) -> Iterator[Daemon]:
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        yield daemon


def hold(station: Station) -> sqlite3.Connection:
    shell = sqlite3.connect(station.state / FILE_NAME, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    return shell


def test_a_locked_ledger_pauses_the_daemon_which_goes_on_by_itself(station: Station, daemon: Daemon) -> None:
    shell = hold(station)
    station.drop("a.tif", 1)
    until(lambda: "paused: the ledger is locked by" in station.log)
    assert f"locked by process {os.getpid()} (" in station.log
    assert daemon.process.poll() is None
    assert station.masks() == []
    shell.execute("COMMIT")
    until(lambda: station.published_all({"a.tif": b""}))
    until(lambda: "the ledger is free again" in station.log)
    (row,) = station.rows()
    assert (row.attempts, row.worker_deaths) == (1, 0)
    assert daemon.terminate() == 0


def test_sigterm_ends_a_daemon_that_waits_for_its_ledger(station: Station, daemon: Daemon) -> None:
    shell = hold(station)
    station.drop("a.tif", 1)
    until(lambda: "paused: the ledger is locked by" in station.log)
    since_s = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - since_s < 10  # what systemd grants, not a speed
    shell.close()
    assert station.drain().returncode == 0
    assert not station.audit({"a.tif": station.scene(1)})


def test_who_holds_a_ledger_is_known_without_opening_it(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with Ledger(path):
        assert holder_of(path) == "another process"  # nobody


def test_the_wait_is_measured_and_may_end_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    told = []

    def give_up(holder: str) -> None:
        told.append(holder)
        time.sleep(0.01)
        if len(told) == 2:
            raise KeyboardInterrupt

    with Ledger(path) as other, Ledger(path, while_locked=give_up) as ledger, other.transaction():
        with pytest.raises(KeyboardInterrupt):
            ledger.note_folders(incoming=tmp_path)
        assert ledger.locked_s > 0
    assert told == ["another process"] * 2  # it is this one
