"""A ledger that the disk, another program or a person has damaged: the daemon ends with 78 and says how to go on; after
`sarwater queue rebuild` it runs, with nothing lost and nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime.commands import queue
from runtime.daemon.damage import LedgerDamaged
from runtime.daemon.folders import Folders
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from runtime.daemon.lock import Lock
from runtime.daemon.recovery import recover
from runtime.products.publish import mask_key_of
from sarwater.errors import ConfigurationError, UsageError
from tests.torture.ledger_damage import BROKEN, FATAL, HARMLESS, some_history
from tests.torture.station import Station


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Station:
    station = Station(tmp_path_factory.mktemp("past"))
    some_history(station)
    return station


@pytest.fixture
def station(past: Station, tmp_path: Path) -> Station:
    shutil.copytree(past.root, tmp_path, dirs_exist_ok=True)
    return Station(tmp_path)


def assert_nothing_lost(station: Station) -> None:
    scenes = {"a.tif": 1, "in work.tif": 3, "in the inbox.tif": 4}
    audit = station.audit({name: station.scene(seed) for name, seed in scenes.items()})
    assert not audit, audit
    assert len(station.masks()) == 3
    assert station.reasons() == {BROKEN: "scene_unreadable"}
    assert [row.name for row in station.rows(Status.QUARANTINED)] == [BROKEN]
    assert "a.tif" in station.published()


@pytest.mark.parametrize("kind", ["page 1 zeroed", "no permission"])
def test_the_daemon_ends_with_78_and_runs_after_a_rebuild(kind: str, station: Station) -> None:
    FATAL[kind](station.state)
    done = station.drain()
    lines = [line for line in done.stderr.splitlines() if "sarwater queue rebuild" in line]
    assert (done.returncode, len(lines)) == (78, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert station.queue("rebuild").returncode == 0
    again = station.drain()
    assert again.returncode == 0, again.stderr
    assert_nothing_lost(station)


def known(station: Station) -> dict[str, Status]:
    return {row.name: row.status for row in station.rows()}


SCENES = {"a.tif": Status.PUBLISHED, BROKEN: Status.QUARANTINED, "in work.tif": Status.CLAIMED}


@pytest.mark.parametrize("kind", [kind for kind in FATAL if kind not in ("no permission", "read-only")])
def test_a_damaged_ledger_is_refused_and_made_anew(kind: str, station: Station) -> None:
    FATAL[kind](station.state)
    with pytest.raises(LedgerDamaged, match=f"run `sarwater queue rebuild --state {station.state}`"):
        Ledger(station.state / FILE_NAME)
    assert queue.main(["--state", str(station.state), "rebuild"]) == 0
    folders = Folders(station.incoming, station.outgoing, station.state)
    with Ledger(station.state / FILE_NAME) as ledger:
        recover(ledger, folders, remove_done=False)
    found = known(station)
    assert found == SCENES or found == {name: SCENES[name] for name in ("a.tif", BROKEN)}
    if "in work.tif" not in found:  # what its name was, nobody knew any more
        assert (station.incoming / "recovered-00000003.tif").read_bytes() == station.scene(3)
    (mask,) = station.masks()
    (row,) = station.rows(Status.PUBLISHED)
    assert row.key == mask_key_of(mask)
    assert (station.state / f"{FILE_NAME}.damaged-1").exists()


@pytest.mark.parametrize("kind", HARMLESS)
def test_a_ledger_that_was_empty_or_has_lost_no_entry_needs_nobody(kind: str, station: Station) -> None:
    HARMLESS[kind](station.state)
    folders = Folders(station.incoming, station.outgoing, station.state)
    with Ledger(station.state / FILE_NAME) as ledger:
        recover(ledger, folders, remove_done=False)
    found = known(station)
    assert found == SCENES or found == {name: SCENES[name] for name in ("a.tif", BROKEN)}


@pytest.mark.parametrize("kind", ["page 1 garbage", "jobs dropped", "impossible products", "later version", "a pipe"])
def test_who_looks_into_a_damaged_ledger_is_told_the_same(kind: str, station: Station) -> None:
    FATAL[kind](station.state)
    with pytest.raises(LedgerDamaged, match="run `sarwater queue rebuild"):
        queue.main(["--state", str(station.state), "list", "ALL"])


def test_a_sound_ledger_is_left_alone(station: Station, capsys: pytest.CaptureFixture[str]) -> None:
    before = (station.state / FILE_NAME).read_bytes()
    assert queue.main(["--state", str(station.state), "rebuild"]) == 0
    assert "nothing to make anew" in capsys.readouterr().out
    assert (station.state / FILE_NAME).read_bytes() == before


def test_nothing_is_rebuilt_under_a_daemon(station: Station) -> None:
    with Lock(station.state), pytest.raises(ConfigurationError, match="another daemon"):
        queue.main(["--state", str(station.state), "rebuild"])


def test_a_claimed_scene_is_not_taken_for_another_that_got_its_number(station: Station) -> None:
    """The numbers begin anew with a new ledger, and the masks that it adopts take the first ones."""
    (station.state / "work/00000003").rename(station.state / "work/00000001")
    shutil.rmtree(station.state / "quarantine/00000002")
    for path in station.state.glob(f"{FILE_NAME}*"):
        path.unlink()
    with Ledger(station.state / FILE_NAME) as ledger:
        recover(ledger, Folders(station.incoming, station.outgoing, station.state), remove_done=False)
    assert (station.incoming / "recovered-00000001.tif").read_bytes() == station.scene(3)


def test_a_scene_that_was_kept_is_never_replaced_by_one_that_gets_its_number(station: Station) -> None:
    folders = Folders(station.incoming, station.outgoing, station.state)
    (folders.done / "a.7.tif").write_bytes(b"an earlier one")
    assert folders.done_path(7, "a.tif") == folders.done / "a.7-1.tif"


def test_a_restored_scene_can_be_requeued(station: Station) -> None:
    FATAL["page 0 zeroed"](station.state)
    assert queue.main(["--state", str(station.state), "rebuild"]) == 0
    with pytest.raises(UsageError, match="start the daemon once"):
        queue.main(["--state", str(station.state), "requeue", "2"])
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.note_folders(incoming=station.incoming, outgoing=station.outgoing)
    assert queue.main(["--state", str(station.state), "requeue", "2"]) == 0
    assert (station.incoming / BROKEN).read_bytes() == b"not a raster"
