"""A ledger that the disk has damaged: the daemon ends with 78, says how to go on, and nothing is lost by doing so."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.daemon.ledger import FILE_NAME, Ledger
from tests.torture.station import Station

PAGE_BYTES = 4096


def damage(ledger: Path, page: int) -> None:
    with ledger.open("r+b") as file:
        file.seek(page * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_a_zeroed_page_ends_with_78_and_names_the_way_on(tmp_path: Path, page: int) -> None:
    station = Station(tmp_path)
    station.drop("s.tif", 1)
    station.drain()
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(station.state / FILE_NAME, page)
    done = station.drain()
    assert done.returncode == 78
    assert "not a sound ledger" in done.stderr
    assert "move ledger.sqlite* away" in done.stderr
    assert "Traceback" not in done.stderr
    for path in station.state.glob(f"{FILE_NAME}*"):
        path.unlink()
    station.drop("again.tif", 1)
    assert station.drain().returncode == 0
    assert [mask.name for mask in station.masks()] == ["s_water.tif"]
