"""States, counts and order, on real SQLite files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.daemon.fingerprint import Signature
from runtime.daemon.ledger import Ledger, State
from sarwater.errors import ConfigurationError
from tests.torture.station import CHECKOUT

SIGHTING = {"state": State.SEEN, "priority": 0, "inode": 1, "size_bytes": 2, "mtime_ns": 3, "found_by": "scan"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def add(ledger: Ledger, name: str = "a.tif", **columns: object) -> int:
    return ledger.seen([{**SIGHTING, "name": name, **columns}])[0]


def run(ledger: Ledger, job: int, key: str) -> None:
    ledger.claimed(job)
    ledger.started(job)
    assert ledger.validated(job, key, "sha") is None
    ledger.running(job, "a_water.tif")


def test_the_way_of_a_scene_from_seen_to_published(ledger: Ledger) -> None:
    job = add(ledger)
    run(ledger, job, "key")
    ledger.published(job, ["a_water.json", "a_water.tif"])
    row = ledger.row(job)
    assert row is not None
    assert row.state is State.PUBLISHED
    assert row.attempts == 1
    assert row.signature == Signature(1, 2, 3)


def test_priority_goes_first_and_then_the_sequence(ledger: Ledger) -> None:
    first, urgent, last = add(ledger, "c"), add(ledger, "b", priority=5), add(ledger, "a")
    assert [row.id for row in ledger.rows(State.SEEN)] == [urgent, first, last]


def test_a_second_scene_with_the_same_key_is_told_who_holds_it(ledger: Ledger) -> None:
    one, two = add(ledger, "one"), add(ledger, "two")
    run(ledger, one, "key")
    ledger.claimed(two)
    ledger.started(two)
    holder = ledger.validated(two, "key", "sha")
    assert holder is not None
    assert holder.id == one
    ledger.duplicate(two, holder.id, "sha")
    assert ledger.counts()[State.DUPLICATE] == 1


def test_a_quarantined_scene_gives_its_key_free(ledger: Ledger) -> None:
    one, two = add(ledger, "one"), add(ledger, "two")
    run(ledger, one, "key")
    ledger.quarantined(one, "bug", "it broke")
    run(ledger, two, "key")
    ledger.published(two, [])


def test_an_attempt_that_ends_with_the_daemon_is_an_interruption(ledger: Ledger) -> None:
    job = add(ledger)
    ledger.claimed(job)
    ledger.started(job)
    ledger.recovered(job)
    ledger.started(job)
    ledger.failed(job, "io", "it failed", worker_died=False)
    row = ledger.row(job)
    assert row is not None
    assert (row.attempts, row.failures, row.worker_deaths, row.interruptions) == (2, 1, 0, 1)


def test_an_attempt_that_is_given_back_does_not_count(ledger: Ledger) -> None:
    job = add(ledger)
    run(ledger, job, "key")
    ledger.given_back(job)
    row = ledger.row(job)
    assert row is not None
    assert (row.state, row.attempts, row.key) == (State.CLAIMED, 0, None)


def test_a_step_out_of_order_is_a_bug_and_changes_nothing(ledger: Ledger) -> None:
    job = add(ledger)
    with pytest.raises(AssertionError, match="SEEN"):
        ledger.published(job, [])
    row = ledger.row(job)
    assert row is not None
    assert row.state is State.SEEN


def test_one_name_waits_once(ledger: Ledger) -> None:
    add(ledger)
    with pytest.raises(Exception, match="UNIQUE"):
        add(ledger)


def test_a_reader_sees_the_ledger_while_the_daemon_writes(ledger: Ledger, tmp_path: Path) -> None:
    add(ledger)
    with Ledger(tmp_path / "ledger.sqlite", read_only=True) as reader:
        add(ledger, "b.tif")
        assert len(reader.rows()) == 2


def test_every_commit_is_synced_and_in_the_write_ahead_log(ledger: Ledger) -> None:
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_what_is_committed_survives_a_kill(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from runtime.daemon.ledger import Ledger, State
ledger = Ledger(Path({str(tmp_path / "ledger.sqlite")!r}))
ledger.seen([dict(name="a", state=State.SEEN, priority=0, inode=1, size_bytes=1, mtime_ns=1, found_by="scan")])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert [row.name for row in ledger.rows()] == ["a"]
        assert ledger.check() == "ok"


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConfigurationError, match="not a sound ledger"):
        Ledger(tmp_path / "ledger.sqlite")
