"""What disks, other programs and people do to a ledger, one function a kind. Each gets the state folder."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.daemon.fingerprint import fingerprint_of
from runtime.daemon.folders import Folders
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from tests.torture.station import Station

BROKEN = "b-bad.tif"
PAGE_BYTES = 4096
Damage = Callable[[Path], None]


def some_history(station: Station) -> dict[str, bytes]:
    """a.tif published and in done, b-bad.tif in quarantine, one scene claimed and one that waits: the sound ones."""
    contents = {"a.tif": station.scene(1), "in work.tif": station.scene(3), "in the inbox.tif": station.scene(4)}
    station.drop("a.tif", contents["a.tif"])
    station.drop(BROKEN, b"not a raster")
    assert station.drain().returncode == 1
    folders = Folders(station.incoming, station.outgoing, station.state)
    with Ledger(station.state / FILE_NAME) as ledger:
        path = station.drop("in work.tif", contents["in work.tif"])
        job = ledger.seen(path.name, Status.SEEN, 0, fingerprint_of(path), "scan")
        folders.take(job, path.name)
        folders.secure(job, path.name)
        ledger.claimed(job)
    station.drop("in the inbox.tif", contents["in the inbox.tif"])
    return contents


@contextmanager
def _database(state: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(state / FILE_NAME, isolation_level=None)
    try:
        yield db
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


def _overwrite(state: Path, offset: int, content: bytes) -> None:
    with (state / FILE_NAME).open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _page(number: int, content: bytes) -> Damage:
    def damage(state: Path) -> None:
        _overwrite(state, number * PAGE_BYTES, content)

    return damage


def _sql(*statements: str) -> Damage:
    def damage(state: Path) -> None:
        with _database(state) as db:
            for statement in ("PRAGMA ignore_check_constraints = ON", *statements):
                db.execute(statement)

    return damage


def _truncated(state: Path) -> None:
    os.truncate(state / FILE_NAME, (state / FILE_NAME).stat().st_size // 2 + 100)


def _cut_to_one_page(state: Path) -> None:
    os.truncate(state / FILE_NAME, PAGE_BYTES)


def _full_of_zeros(state: Path) -> None:
    file = state / FILE_NAME
    file.write_bytes(bytes(file.stat().st_size))


def _text(state: Path) -> None:
    (state / FILE_NAME).write_text("restored from backup tape 7, see ticket 4711\n" * 200)


def _log_of_another(state: Path) -> None:
    """The write-ahead log of another database, with pages of its own."""
    other = state / "other.sqlite"
    db = sqlite3.connect(other, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE mail (id INTEGER PRIMARY KEY, text TEXT)")
    db.executemany("INSERT INTO mail (text) VALUES (?)", [("x" * 500,)] * 50)
    shutil.copy(f"{other}-wal", f"{state / FILE_NAME}-wal")
    db.close()
    other.unlink()


def _folder(state: Path) -> None:
    (state / FILE_NAME).unlink()
    (state / FILE_NAME).mkdir()
    (state / FILE_NAME / "x").touch()


def _pipe(state: Path) -> None:
    (state / FILE_NAME).unlink()
    os.mkfifo(state / FILE_NAME)


def _log_is_folder(state: Path) -> None:
    Path(f"{state / FILE_NAME}-wal").mkdir()


def _index_is_folder(state: Path) -> None:
    Path(f"{state / FILE_NAME}-shm").mkdir()


def _no_permission(state: Path) -> None:
    (state / FILE_NAME).chmod(0)


def _read_only(state: Path) -> None:
    (state / FILE_NAME).chmod(0o444)


def _of_another_program(state: Path) -> None:
    (state / FILE_NAME).unlink()
    with _database(state) as db:
        db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, text TEXT)")
        db.execute("PRAGMA user_version = 3")


_GARBAGE = random.Random(1).randbytes(PAGE_BYTES)

FATAL: dict[str, Damage] = {
    **{f"page {number} zeroed": _page(number, bytes(PAGE_BYTES)) for number in range(4)},
    **{f"page {number} garbage": _page(number, _GARBAGE) for number in range(4)},
    "wrong magic": _page(0, b"SQLite format 4\0"),
    "truncated": _truncated,
    "cut to one page": _cut_to_one_page,
    "full of zeros": _full_of_zeros,
    "text": _text,
    "log of another database": _log_of_another,
    "database of another program": _of_another_program,
    "later version": _sql("PRAGMA user_version = 99"),
    "jobs dropped": _sql("DROP TABLE jobs"),
    "folders dropped": _sql("DROP TABLE folders"),
    "unique index dropped": _sql("DROP INDEX one_wait_per_name"),
    "column dropped": _sql("ALTER TABLE jobs DROP COLUMN found_by"),
    "a trigger": _sql("CREATE TRIGGER t AFTER UPDATE ON jobs BEGIN DELETE FROM jobs; END"),
    "impossible status": _sql("UPDATE jobs SET status = 'LOST' WHERE id = 2"),
    "impossible name": _sql("UPDATE jobs SET name = '../../etc/passwd' WHERE id = 2"),
    "impossible number": _sql("UPDATE jobs SET id = -7 WHERE id = 1"),
    "impossible large number": _sql("UPDATE jobs SET id = 9000000000000000000 WHERE id = 1"),
    "impossible time": _sql("UPDATE jobs SET seen_utc = 'yesterday' WHERE id = 1"),
    "impossible products": _sql("UPDATE jobs SET products = '[' WHERE id = 1"),
    "impossible count": _sql("UPDATE jobs SET attempts = -3 WHERE id = 1"),
    "a folder": _folder,
    "a pipe": _pipe,
    "log is a folder": _log_is_folder,
    "index is a folder": _index_is_folder,
    "no permission": _no_permission,
    "read-only": _read_only,
}
"""With these the daemon ends with 78 and names `sarwater queue rebuild`."""


def _empty(state: Path) -> None:
    (state / FILE_NAME).write_bytes(b"")


def _gone(state: Path) -> None:
    (state / FILE_NAME).unlink()


def _log_and_index_gone(state: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{state / FILE_NAME}{suffix}").unlink(missing_ok=True)


def _index_garbage(state: Path) -> None:
    Path(f"{state / FILE_NAME}-shm").write_bytes(_GARBAGE * 8)


def _log_garbage(state: Path) -> None:
    Path(f"{state / FILE_NAME}-wal").write_bytes(_GARBAGE * 8)


HARMLESS: dict[str, Damage] = {
    "empty": _empty,
    "gone": _gone,
    "log and index gone": _log_and_index_gone,
    "index is garbage": _index_garbage,
    "log is garbage": _log_garbage,
}
"""With these it starts by itself: there was nothing in them, or SQLite's checksums tell."""
ALL = {**FATAL, **HARMLESS}
