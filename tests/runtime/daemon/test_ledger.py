"""States, counts and order, on real SQLite files."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.daemon.damage import LedgerDamaged
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.ledger import Ledger, Status
from sarwater.errors import ConfigurationError
from tests.torture.station import CHECKOUT

FOUND = Fingerprint(1, 2, 3)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def add(ledger: Ledger, name: str = "a.tif", priority: int = 0) -> int:
    return ledger.seen(name, Status.SEEN, priority, FOUND, "scan")


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
    assert row.status is Status.PUBLISHED
    assert row.attempts == 1
    assert row.fingerprint == Fingerprint(1, 2, 3)


def test_priority_goes_first_and_then_the_sequence(ledger: Ledger) -> None:
    first, urgent, last = add(ledger, "c"), add(ledger, "b", priority=5), add(ledger, "a")
    assert [row.id for row in ledger.rows(Status.SEEN)] == [urgent, first, last]


def test_a_second_scene_with_the_same_key_is_told_who_holds_it(ledger: Ledger) -> None:
    one, two = add(ledger, "one"), add(ledger, "two")
    run(ledger, one, "key")
    ledger.claimed(two)
    ledger.started(two)
    holder = ledger.validated(two, "key", "sha")
    assert holder is not None
    assert holder.id == one
    ledger.duplicate(two, holder.id, "sha")
    assert ledger.counts()[Status.DUPLICATE] == 1


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
    assert (row.status, row.attempts, row.key) == (Status.CLAIMED, 0, None)


def test_a_step_out_of_order_is_a_bug_and_changes_nothing(ledger: Ledger) -> None:
    job = add(ledger)
    with pytest.raises(AssertionError, match="SEEN"):
        ledger.published(job, [])
    row = ledger.row(job)
    assert row is not None
    assert row.status is Status.SEEN


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
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.ledger import Ledger, Status
ledger = Ledger(Path({str(tmp_path / "ledger.sqlite")!r}))
ledger.seen("a", Status.SEEN, 0, Fingerprint(1, 1, 1), "scan")
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


VERSION_1 = """
CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN (
        'SEEN', 'SETTLING', 'CLAIMED', 'VALIDATED', 'RUNNING', 'RETRY_WAIT', 'PUBLISHED', 'QUARANTINED', 'DUPLICATE',
        'IGNORED')),
    priority        INTEGER NOT NULL DEFAULT 0,
    inode           INTEGER NOT NULL,
    size_bytes      INTEGER NOT NULL,
    mtime_ns        INTEGER NOT NULL,
    found_by        TEXT    NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    failures        INTEGER NOT NULL DEFAULT 0,
    worker_deaths   INTEGER NOT NULL DEFAULT 0,
    key             TEXT    UNIQUE,
    input_sha256    TEXT,
    duplicate_of    INTEGER REFERENCES jobs (id),
    reason          TEXT,
    message         TEXT,
    mask            TEXT,
    products        TEXT,
    seen_utc        TEXT    NOT NULL,
    claimed_utc     TEXT,
    finished_utc    TEXT
) STRICT;
CREATE UNIQUE INDEX one_wait_per_name ON jobs (name) WHERE state IN ('SEEN', 'SETTLING');
CREATE INDEX by_state ON jobs (state);
CREATE INDEX by_name ON jobs (name);
CREATE INDEX by_mask ON jobs (mask) WHERE products IS NOT NULL;
CREATE TABLE folders (name TEXT PRIMARY KEY, path TEXT NOT NULL) STRICT;
INSERT INTO jobs (name, state, inode, size_bytes, mtime_ns, found_by, key, mask, products, seen_utc)
    VALUES ('old.tif', 'PUBLISHED', 1, 2, 3, 'scan', 'key', 'old_water.tif', '["old_water.tif"]', '2026-11-01'),
           ('waits.tif', 'SEEN', 4, 5, 6, 'event', NULL, NULL, NULL, '2026-11-02T00:00:00');
PRAGMA user_version = 1;
"""


@pytest.fixture
def old_ledger(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("PRAGMA journal_mode = WAL;" + VERSION_1)
    return path


def test_a_ledger_of_version_1_is_taken_over_with_all_that_it_knows(old_ledger: Path) -> None:
    for _ in range(2):
        with Ledger(old_ledger) as ledger:
            assert [(row.name, row.status) for row in ledger.rows()] == [
                ("old.tif", Status.PUBLISHED),
                ("waits.tif", Status.SEEN),
            ]
            assert ledger.check() == "ok"
    with Ledger(old_ledger) as ledger:
        run(ledger, 2, "other")
        ledger.published(2, ["waits_water.tif"])
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            [add(ledger, "same.tif") for _ in range(2)]
        assert ledger.holder("key") == ledger.row(1)


def test_a_ledger_of_version_1_is_read_without_changing_it(old_ledger: Path) -> None:
    before = old_ledger.read_bytes()
    with Ledger(old_ledger, read_only=True) as ledger:
        assert ledger.counts()[Status.PUBLISHED] == 1
        assert [row.name for row in ledger.rows(Status.SEEN)] == ["waits.tif"]
    assert old_ledger.read_bytes() == before


def test_a_version_1_ledger_that_cannot_be_taken_over_stays_as_it_was(old_ledger: Path) -> None:
    with contextlib.closing(sqlite3.connect(old_ledger)) as database:
        database.execute("DROP INDEX by_state")
        database.commit()
    with pytest.raises(LedgerDamaged, match="by_state"):
        Ledger(old_ledger)
    with Ledger(old_ledger, read_only=True) as ledger:
        assert ledger.counts()[Status.SEEN] == 1


def test_a_ledger_of_a_later_version_is_refused(old_ledger: Path) -> None:
    with contextlib.closing(sqlite3.connect(old_ledger)) as database:
        database.execute("PRAGMA user_version = 99")
    for read_only in (False, True):
        with pytest.raises(ConfigurationError, match="version 99"):
            Ledger(old_ledger, read_only=read_only)


def test_a_tables_schema_is_the_same_whether_made_or_taken_over(old_ledger: Path, ledger: Ledger) -> None:
    def columns(of: Ledger) -> list[tuple[object, ...]]:
        return of._db.execute("SELECT name, type, [notnull] FROM pragma_table_info('jobs')").fetchall()

    def indices(of: Ledger) -> set[tuple[object, ...]]:
        return set(of._db.execute("SELECT name FROM sqlite_master WHERE type = 'index'"))

    with Ledger(old_ledger) as taken_over:
        assert (columns(taken_over), indices(taken_over)) == (columns(ledger), indices(ledger))


@pytest.mark.parametrize(
    "raw", [b"\xc7\xd1\xb0\xad.tif", b"caf\xe9.tif", "한강.tif".encode(), b"two\nlines\x1b[2J.tif"]
)
def test_a_name_of_any_bytes_comes_back_as_it_was(ledger: Ledger, raw: bytes) -> None:
    name = os.fsdecode(raw)
    job = add(ledger, name)
    row = ledger.newest(name)
    assert row is not None
    assert (row.id, os.fsencode(row.name)) == (job, raw)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        add(ledger, name)
    assert ledger.check() == "ok"
