"""A copy of the ledger taken while the daemon works, and a station that goes on from an older one."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from tests.torture.station import Station, until


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """Two scenes published (1, 2), two in quarantine (3, 4), one still to come; the copy is of that moment."""
    station = Station(tmp_path_factory.mktemp("backup"))
    for name, content in {"a.tif": 1, "b.tif": 2, "bad.tif": b"no raster", "worse.tif": b"none either"}.items():
        station.drop(name, content)
    assert station.drain().returncode == 1
    assert station.queue("backup", str(station.root / "copy.sqlite")).returncode == 0
    return station


@pytest.fixture
def station(began: Station, tmp_path: Path) -> Station:
    return began.copied_to(tmp_path)


def test_nothing_that_happened_since_the_copy_is_lost_or_done_twice(station: Station) -> None:
    station.drop("c.tif", 3)
    station.drop("more.tif", b"no raster at all")
    station.drain()
    assert station.queue("drop", "worse.tif").returncode == 0
    station.drop("d.tif", 4)
    masks = {mask: mask.stat().st_mtime_ns for mask in station.masks()}
    quarantined = station.reasons()

    done = station.queue("restore", str(station.root / "copy.sqlite"))

    assert done.returncode == 0, done.stderr
    assert station.reasons() == quarantined
    assert [row.name for row in station.rows(Status.QUARANTINED)] == ["bad.tif", "more.tif"]
    station.drain()
    contents = {name: station.scene(seed) for seed, name in enumerate(("a.tif", "b.tif", "c.tif", "d.tif"), 1)}
    assert not (audit := station.audit(contents)), audit
    assert station.published() == sorted(contents)
    assert all(mask.stat().st_mtime_ns == made for mask, made in masks.items())


def test_a_scene_that_was_claimed_since_goes_on(station: Station) -> None:
    station.drop("c.tif", 3)
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.reserve(7)
    claimed = station.state / "work" / "00000008" / "input.tif"
    claimed.parent.mkdir()
    (station.incoming / "c.tif").rename(claimed)
    assert station.queue("restore", str(station.root / "copy.sqlite")).returncode == 0
    station.drain()
    contents = {"a.tif": station.scene(1), "b.tif": station.scene(2), "c.tif": station.scene(3)}
    assert not (audit := station.audit(contents)), audit


def test_a_scene_of_the_copy_that_waited_then_is_where_it_is_now(station: Station) -> None:
    station.drop("c.tif", 3)
    with Ledger(station.state / FILE_NAME) as ledger:
        fingerprint = ledger.rows()[0].fingerprint
        ledger.seen("c.tif", Status.SEEN, 0, fingerprint, "scan")
    copy = station.root / "waiting.sqlite"
    assert station.queue("backup", str(copy)).returncode == 0
    station.drain()
    assert station.queue("restore", str(copy)).returncode == 0
    station.drain()
    contents = {name: station.scene(seed) for seed, name in enumerate(("a.tif", "b.tif", "c.tif"), 1)}
    assert not (audit := station.audit(contents)), audit
    assert not station.rows(Status.IGNORED)


def test_a_ledger_that_is_gone_comes_back_with_its_past(station: Station) -> None:
    history = {row.name: row.finished_utc for row in station.rows(Status.PUBLISHED)}
    (station.state / FILE_NAME).unlink()
    assert station.queue("restore", str(station.root / "copy.sqlite")).returncode == 0
    assert {row.name: row.finished_utc for row in station.rows(Status.PUBLISHED)} == history


def test_a_copy_taken_while_scenes_are_worked_off_is_sound(station: Station) -> None:
    with station.start():
        for seed in range(10, 22):
            station.drop(f"{seed}.tif", seed)
        copies = 0
        while len(station.published()) < 14:
            copy = station.root / f"copy-{copies % 3}.sqlite"
            assert station.queue("backup", str(copy)).returncode == 0
            with sqlite3.connect(copy) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            copies += 1
    assert copies


def test_restore_is_refused_while_a_daemon_runs(station: Station) -> None:
    with station.start():
        until(lambda: "ready" in station.log)
        done = station.queue("restore", str(station.root / "copy.sqlite"))
    assert done.returncode == 78
    assert "another daemon" in done.stderr


def test_what_is_no_copy_is_refused_and_changes_nothing(station: Station) -> None:
    before = (station.state / FILE_NAME).read_bytes()
    (station.root / "text.sqlite").write_text("no ledger\n")
    done = station.queue("restore", str(station.root / "text.sqlite"))
    assert done.returncode == 2
    assert "no copy of a ledger" in done.stderr
    assert (station.state / FILE_NAME).read_bytes() == before


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system: /dev/shm")
def test_a_station_goes_on_from_another_disk(station: Station) -> None:
    """Inodes and devices are others there; a scene waits, one was seen by the ledger, the rest is finished."""
    station.drop("c.tif", 3)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        shutil.copytree(station.root, other, dirs_exist_ok=True)
        moved = Station(Path(other))
        moved.drain()
        contents = {name: station.scene(seed) for seed, name in enumerate(("a.tif", "b.tif", "c.tif"), 1)}
        assert not (audit := moved.audit(contents)), audit
        assert moved.published() == sorted(contents)
        assert [row.name for row in moved.rows(Status.QUARANTINED)] == ["bad.tif", "worse.tif"]
