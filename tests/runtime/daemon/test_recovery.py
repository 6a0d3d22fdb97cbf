"""Each gap that a crash can leave between two steps, made by hand, and what the next daemon makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.daemon.fingerprint import Fingerprint, fingerprint_of
from runtime.daemon.folders import Folders
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from runtime.daemon.recovery import recover
from runtime.products.publish import mask_key_of
from sarwater.manifest import sha256_of
from tests.torture.station import Station


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def folders(station: Station) -> Folders:
    folders = Folders(station.incoming, station.outgoing, station.state)
    folders.prepare()
    return folders


def enter(station: Station, ledger: Ledger, name: str = "s.tif", content: int = 1) -> int:
    path = station.drop(name, content)
    found = fingerprint_of(path)
    return ledger.seen(name, Status.SEEN, 0, found, "scan")


def claim(folders: Folders, job: int, name: str) -> Path:
    folders.take(job, name)
    return folders.secure(job, name)


def test_renamed_into_work_but_not_in_the_ledger(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        claim(folders, enter(station, ledger), "s.tif")
    station.drain()
    assert station.published() == ["s.tif"]


def test_a_claim_cut_short_after_its_rename_still_checks_the_checksum(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        folders.take(enter(station, ledger), "s.tif")
    (station.incoming / "s.tif.sha256").write_text(f"{'0' * 64}  s.tif\n")
    station.drain()
    assert station.published() == []
    (row,) = station.rows(Status.QUARANTINED)
    assert row.reason == "checksum_mismatch"
    assert not (station.incoming / "s.tif.sha256").exists()


def test_a_claim_cut_short_leaves_the_checksum_of_the_next_scene_of_its_name(
    station: Station, folders: Folders
) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        folders.take(enter(station, ledger), "s.tif")
    digest = sha256_of(station.drop("s.tif", 2))
    (station.incoming / "s.tif.sha256").write_text(f"{digest}  s.tif\n")
    station.drain()
    assert [row.status for row in station.rows()] == [Status.PUBLISHED, Status.PUBLISHED]


def test_worker_ended_with_the_daemon_before_anything_was_visible(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
        claim(folders, job, "s.tif")
        ledger.claimed(job)
        ledger.started(job)
        ledger.validated(job, "key", "sha")
        ledger.running(job, "s_water.tif")
    station.drain()
    (row,) = station.rows(Status.PUBLISHED)
    assert (row.attempts, row.interruptions) == (2, 2)


def linked_but_not_entered(station: Station) -> Path:
    """s.tif as job 1, its mask visible, the ledger's entry of that missing. Returns the mask."""
    station.drop("s.tif", 1)
    station.drain()
    (mask,) = station.masks()
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.requeued(1)
        ledger.claimed(1)
        ledger.started(1)
        ledger.validated(1, mask_key_of(mask) or "", "sha")
        ledger.running(1, mask.name)
        ledger._db.execute("UPDATE jobs SET products = NULL")
    os.makedirs(station.state / "work/00000001")
    os.rename(station.state / "done/s.tif", station.state / "work/00000001/input.tif")
    return mask


def test_mask_visible_but_not_in_the_ledger_is_finished_without_another_run(station: Station) -> None:
    mask = linked_but_not_entered(station)
    before = mask.stat().st_ino
    station.drain()
    (row,) = station.rows(Status.PUBLISHED)
    assert row.attempts == 1
    assert mask.stat().st_ino == before
    assert (station.state / "done/s.tif").exists()


def test_a_requeue_that_adds_a_product_is_run_again_when_the_daemon_dies_in_it(station: Station) -> None:
    mask = linked_but_not_entered(station)
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger._db.execute("UPDATE jobs SET products = ?", (f'["{mask.name}"]',))
    before = mask.stat().st_ino
    station.drain(products="mask,confidence")
    assert (station.outgoing / "s_confidence.tif").exists()
    assert mask.stat().st_ino == before
    (row,) = station.rows(Status.PUBLISHED)
    assert row.products == '["s_confidence.tif", "s_water.tif"]'


def test_mask_visible_when_the_disk_was_too_full_for_the_ledger(station: Station, folders: Folders) -> None:
    linked_but_not_entered(station)
    with Ledger(station.state / FILE_NAME) as ledger:
        recover(ledger, folders, remove_done=False, no_space=True)
    (row,) = station.rows(Status.PUBLISHED)
    assert row.name == "s.tif"
    assert (station.state / "done/s.tif").exists()


def test_published_but_the_input_still_in_work(station: Station) -> None:
    station.drop("s.tif", 1)
    station.drain()
    os.makedirs(station.state / "work/00000001")
    os.rename(station.state / "done/s.tif", station.state / "work/00000001/input.tif")
    station.drain()
    assert (station.state / "done/s.tif").exists()
    assert not any((station.state / "work").iterdir())


def test_in_quarantine_but_not_in_the_ledger(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
        claim(folders, job, "s.tif")
        ledger.claimed(job)
        folders.quarantine_scene(job, "s.tif", {"reason": "bug", "message": "it broke"})
        recover(ledger, folders, remove_done=False)
        row = ledger.row(job)
    assert row is not None
    assert (row.status, row.reason) == (Status.QUARANTINED, "bug")


def test_linked_back_into_the_inbox_but_still_in_work(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
        held = claim(folders, job, "s.tif")
        ledger.claimed(job)
        os.link(held, station.incoming / "s.tif")
    station.drain()
    assert station.published() == ["s.tif"]
    assert len(station.rows()) == 1


def test_back_in_the_inbox_but_claimed_in_the_ledger(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
        claim(folders, job, "s.tif")
        ledger.claimed(job)
        assert folders.give_back(job, "s.tif")
    station.drain()
    assert station.published() == ["s.tif"]
    assert len(station.rows()) == 1


def test_requeued_in_the_ledger_but_still_in_quarantine(station: Station, folders: Folders) -> None:
    station.drop("bad.tif", b"not a raster")
    station.drain()
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.requeued(1)
        recover(ledger, folders, remove_done=False)
        row = ledger.row(1)
    assert row is not None
    assert (row.status, row.reason) == (Status.QUARANTINED, "requeue_interrupted")


def quarantined_and_requeued(station: Station) -> None:
    station.drop("bad.tif", b"not a raster")
    station.drain()
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.requeued(1)


def test_back_in_the_inbox_but_still_in_quarantine(station: Station, folders: Folders) -> None:
    quarantined_and_requeued(station)
    os.link(station.state / "quarantine/00000001/bad.tif", station.incoming / "bad.tif")
    assert station.drain().returncode == 1
    (row,) = station.rows()
    assert (row.status, row.reason) == (Status.QUARANTINED, "scene_unreadable")
    assert not any(station.incoming.iterdir())


def test_the_reason_of_the_last_round_judges_no_scene_that_was_requeued(station: Station, folders: Folders) -> None:
    quarantined_and_requeued(station)
    folders.release(station.state / "quarantine/00000001/bad.tif", "bad.tif")
    with Ledger(station.state / FILE_NAME) as ledger:
        claim(folders, 1, "bad.tif")
        ledger.claimed(1)
        recover(ledger, folders, remove_done=False)
        row = ledger.row(1)
    assert row is not None
    assert row.status is Status.CLAIMED
    assert not (station.state / "quarantine/00000001").exists()


def test_a_scene_in_quarantine_is_kept_where_another_took_its_name_and_number(
    station: Station, folders: Folders
) -> None:
    quarantined_and_requeued(station)
    station.drop("bad.tif", 1)
    with Ledger(station.state / FILE_NAME):
        claim(folders, 1, "bad.tif")
    assert (station.state / "quarantine/00000001-1/bad.tif").read_bytes() == b"not a raster"
    station.drain()
    assert station.published() == ["bad.tif"]


def claimed_and_forgotten(station: Station) -> int:
    """The job that s.tif had in a ledger that is gone."""
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
    for path in station.state.glob(FILE_NAME + "*"):
        path.unlink()
    return job


def test_a_lost_ledger_loses_no_scene(station: Station, folders: Folders) -> None:
    claim(folders, claimed_and_forgotten(station), "s.tif")
    station.drain()
    assert station.published() == ["recovered-00000001.tif"]
    assert len(station.masks()) == 1


def test_a_scene_given_back_under_two_names_is_worked_off_once(station: Station, folders: Folders) -> None:
    held = claim(folders, claimed_and_forgotten(station), "s.tif")
    os.link(held, station.incoming / "recovered-00000001.tif")
    station.drain()
    assert station.published() == ["recovered-00000001.tif"]
    assert not station.audit({}).duplicated


def test_a_scene_is_given_back_beside_another_of_that_name(station: Station, folders: Folders) -> None:
    claim(folders, claimed_and_forgotten(station), "s.tif")
    station.drop("recovered-00000001.tif", 2)
    station.drain()
    assert station.published() == ["recovered-00000001.tif", "rerecovered-00000001.tif"]


def test_a_lost_ledger_makes_no_second_mask(station: Station) -> None:
    station.drop("s.tif", 1)
    station.drain()
    for path in station.state.glob(FILE_NAME + "*"):
        path.unlink()
    station.drop("again.tif", 1)
    station.drop("other.tif", 2)
    done = station.drain()
    assert "1 of our masks are not in the ledger" in done.stderr
    assert [mask.name for mask in station.masks()] == ["other_water.tif", "s_water.tif"]
    assert [row.name for row in station.rows(Status.DUPLICATE)] == ["again.tif"]
    assert "not in the ledger" not in station.drain().stderr


def test_a_mask_that_predict_made_is_not_made_again_under_another_name(station: Station) -> None:
    station.drop("earlier.tif", 2)
    station.drain()
    station.drop("b.tif", 1)
    station.module = "runtime.commands.predict"
    subprocess.run(
        station.command("--products=mask,stac", str(station.incoming / "b.tif")), check=True, cwd=station.checkout
    )
    station.module = "runtime.commands.watch"
    station.drop("a-same.tif", 1)
    station.drain()
    assert [mask.name for mask in station.masks()] == ["b_water.tif", "earlier_water.tif"]
    assert sorted(row.name for row in station.rows(Status.DUPLICATE)) == ["a-same.tif", "b.tif"]


def test_staged_products_of_a_dead_daemon_are_dropped(station: Station, folders: Folders) -> None:
    staging = station.outgoing / ".s.abc.tmp"
    staging.mkdir()
    (staging / "s_water.tif").write_bytes(b"half a mask")
    station.drop("s.tif", 1)
    station.drain()
    assert not staging.exists()


def test_a_scene_on_which_the_daemon_died_too_often_is_quarantined(station: Station, folders: Folders) -> None:
    station.settings["max_interruptions"] = "2"
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
        claim(folders, job, "s.tif")
        ledger.claimed(job)
        for _ in range(2):
            ledger.started(job)
            ledger.recovered(job)
    station.drain()
    assert station.reasons() == {"s.tif": "interrupted"}


def test_a_scene_that_was_taken_away_while_claimed_is_reported(station: Station, folders: Folders) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = enter(station, ledger)
        claim(folders, job, "s.tif")
        ledger.claimed(job)
    shutil.rmtree(station.state / "work/00000001")
    done = station.drain()
    assert done.returncode == 0
    assert "somebody took it" in done.stderr


def test_a_claim_that_fails_after_the_rename_is_not_taken_for_a_scene_that_left(station: Station) -> None:
    locked = station.state / "quarantine" / "00000002"
    locked.mkdir(parents=True)
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.seen("earlier.txt", Status.IGNORED, 0, Fingerprint(0, 0, 0), "scan")
    (locked / "left").write_bytes(b"of a ledger that is gone")
    locked.chmod(0o555)
    station.drop("s.tif", 1)
    try:
        assert station.drain().returncode != 0
    finally:
        locked.chmod(0o755)
    station.drain()
    assert station.published() == ["s.tif"]
