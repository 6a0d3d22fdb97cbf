"""The ledger: one row per scene in SQLite, written before and after everything that must survive a power cut.

A scene's number in it, `id`, is what every other part calls its job. Names are the bytes of the file system, as TEXT.

    SEEN ─────┐       ┌──────────────────────────┐
    SETTLING ─┴▶ CLAIMED ─▶ VALIDATED ─▶ RUNNING ─┴▶ RETRY_WAIT
    IGNORED        ├──────────┴────────────┴───────▶ QUARANTINED
                   └─▶ DUPLICATE           └───────▶ PUBLISHED

SEEN rows were complete at first sight (or given back by a stopping daemon); SETTLING rows must stay unchanged first.
WAL with synchronous=FULL: a commit that returned is on the disk, and readers never block the daemon.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.daemon import outbox
from runtime.daemon.damage import (
    LedgerDamaged,
    as_damage,
    holder_of,
    impossible_row,
    is_damage,
    is_locked,
    strange_file,
)
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.item import shown
from sarwater.errors import ConfigurationError

FILE_NAME = "ledger.sqlite"
_VERSION = 4


_TEXT = "CAST(? AS TEXT)"
"""For a value that is given as bytes: SQLite keeps and compares them as they are."""


class Status(str, Enum):
    SEEN = "SEEN"
    SETTLING = "SETTLING"
    CLAIMED = "CLAIMED"
    VALIDATED = "VALIDATED"
    RUNNING = "RUNNING"
    RETRY_WAIT = "RETRY_WAIT"
    PUBLISHED = "PUBLISHED"
    QUARANTINED = "QUARANTINED"
    DUPLICATE = "DUPLICATE"
    IGNORED = "IGNORED"


WAITING = (Status.SEEN, Status.SETTLING)
"""Still in the inbox."""
CLAIMED = (Status.CLAIMED, Status.VALIDATED, Status.RUNNING, Status.RETRY_WAIT)
"""Taken out of the inbox and not finished."""

_SCHEMA = f"""
CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ({", ".join(f"'{status.value}'" for status in Status)})),
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
    finished_utc    TEXT,
    ctime_ns        INTEGER NOT NULL DEFAULT 0,
    device          INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX one_wait_per_name ON jobs (name) WHERE status IN ('SEEN', 'SETTLING');
CREATE INDEX by_status ON jobs (status);
CREATE INDEX by_name ON jobs (name);
CREATE INDEX by_mask ON jobs (mask) WHERE products IS NOT NULL;
CREATE TABLE folders (name TEXT PRIMARY KEY, path TEXT NOT NULL) STRICT;{outbox.SCHEMA};
PRAGMA user_version = {_VERSION};
"""
_PARTS = set(re.findall(r"CREATE (?:TABLE|INDEX|UNIQUE INDEX) (\w+)", _SCHEMA))
_FROM_VERSION_3 = f"""{outbox.SCHEMA};
PRAGMA user_version = {_VERSION};
"""
_FROM_VERSION_2 = f"""
ALTER TABLE jobs ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN device INTEGER NOT NULL DEFAULT 0;
{_FROM_VERSION_3.lstrip()}"""
_FROM_VERSION_1 = f"""
ALTER TABLE jobs RENAME COLUMN state TO status;
DROP INDEX by_state;
CREATE INDEX by_status ON jobs (status);
{_FROM_VERSION_2.lstrip()}"""
_STEPS = {0: _SCHEMA, 1: _FROM_VERSION_1, 2: _FROM_VERSION_2, 3: _FROM_VERSION_3}
_VIEWS = {
    1: (
        "CREATE TEMP VIEW jobs AS SELECT *, state AS status, 0 AS ctime_ns, 0 AS device FROM main.jobs",
        outbox.EMPTY_VIEW,
    ),
    2: ("CREATE TEMP VIEW jobs AS SELECT *, 0 AS ctime_ns, 0 AS device FROM main.jobs", outbox.EMPTY_VIEW),
    3: (outbox.EMPTY_VIEW,),
}
"""Of earlier versions, for those who only look: they stay as they are until a daemon takes them over."""


@dataclass(frozen=True)
class Row:
    """One scene. `key` is set only while the scene is worked on and after it was published: the same bytes may be
    tried again after a quarantine."""

    id: int
    name: str
    status: Status
    priority: int
    inode: int
    size_bytes: int
    mtime_ns: int
    found_by: str
    attempts: int
    """Counted before the worker starts on it."""
    failures: int
    """Attempts that ended in a transient failure."""
    worker_deaths: int
    key: str | None
    input_sha256: str | None
    duplicate_of: int | None
    reason: str | None
    message: str | None
    mask: str | None
    """File name that the mask has, or would have."""
    products: str | None
    """JSON list of the published file names."""
    seen_utc: str
    claimed_utc: str | None
    finished_utc: str | None
    ctime_ns: int
    device: int

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the input when it was last looked at."""
        return Fingerprint(self.inode, self.size_bytes, self.mtime_ns, self.ctime_ns, self.device)

    @property
    def interruptions(self) -> int:
        """Attempts that ended with the whole daemon."""
        return self.attempts - self.failures - self.worker_deaths


class Ledger:
    """A context manager. `read_only` is for those who look while the daemon runs.

    `while_locked` is called, again and again, while another process holds the ledger, with who it is; it returns after
    a moment for another try, or raises. Without it, a locked ledger is waited for 30 s.

    A ledger of an earlier version is taken over. Raises LedgerDamaged for a file that is no sound ledger or of a later
    version, sqlite3.OperationalError where it is locked, the disk is full or broken.
    """

    def __init__(self, path: Path, read_only: bool = False, while_locked: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._while_locked = while_locked
        self.locked_s = 0.0
        """How long others held it, all in all."""
        if strange := strange_file(path):
            raise LedgerDamaged(path, strange)
        mode = "ro" if read_only else "rwc"
        patience_s = 30.0 if while_locked is None else 0.2
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=patience_s
            )
        except sqlite3.DatabaseError as error:
            if not read_only and is_damage(error) and os.path.lexists(path):
                raise as_damage(path, error) from error
            raise
        self._db.text_factory = os.fsdecode
        self.outbox = outbox.Outbox(self._execute)
        try:
            self._open(read_only)
        except BaseException as error:
            self._db.close()
            no_permission = read_only and isinstance(error, sqlite3.OperationalError)
            if isinstance(error, sqlite3.DatabaseError) and is_damage(error) and not no_permission:
                raise as_damage(path, error) from error
            raise

    def _open(self, read_only: bool) -> None:
        self._execute("PRAGMA foreign_keys = ON")
        if not read_only:
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = FULL")
        if not read_only and (verdict := self.check()) != "ok":
            raise LedgerDamaged(self._path, verdict.splitlines()[0])
        if self._version > _VERSION:
            raise LedgerDamaged(
                self._path,
                f"of version {self._version}, expected {_VERSION} at most: the sarwater that wrote it reads it",
            )
        if not read_only and self._version < _VERSION:
            self._make_or_take_over()
        elif self._version == 0:
            raise ConfigurationError(f"{self._path}: empty; start the daemon, which fills it once there is room")
        elif self._version in _VIEWS:
            for view in _VIEWS[self._version]:
                self._execute(view)
        if self._version == _VERSION and (wrong := self._strange_part() or impossible_row(self._db)):
            raise LedgerDamaged(self._path, wrong)

    def _strange_part(self) -> str:
        """A table, index or column that is missing, or that nobody of ours made; empty where all is as it should be."""
        found = {name for (name,) in self._execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")}
        for missing in sorted(_PARTS - found):
            return f"it has no {missing}"
        for foreign in sorted(found - _PARTS):
            return f"it has a part that is none of ours: {foreign}"
        columns = {name for (name,) in self._execute("SELECT name FROM pragma_table_info('jobs')")}
        for missing in sorted(Row.__dataclass_fields__.keys() - columns):
            return f"its jobs have no {missing}"
        return ""

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """The one way to the database: waits while another process holds it."""
        while True:
            try:
                return self._db.execute(sql, values)
            except sqlite3.OperationalError as error:
                if self._while_locked is None or not is_locked(error):
                    raise
                since_s = time.monotonic()
                self._while_locked(holder_of(self._path))
                self.locked_s += time.monotonic() - since_s

    @property
    def _version(self) -> int:
        return int(self._execute("PRAGMA user_version").fetchone()[0])

    def _make_or_take_over(self) -> None:
        with self.transaction():  # within which nobody else does
            for statement in _STEPS.get(self._version, "").split(";\n"):
                self._execute(statement)

    @property
    def is_empty(self) -> bool:
        """Does it know no scene, because it was just made?"""
        return not self._execute("SELECT EXISTS (SELECT 1 FROM jobs)").fetchone()[0]

    def row(self, job: int) -> Row | None:
        return next(self._select("WHERE id = ?", job), None)

    def rows(self, *statuses: Status, limit: int = -1) -> list[Row]:
        """All rows in one of `statuses` (all without), in the order in which they are worked off; at most `limit`."""
        where = f"WHERE status IN ({','.join('?' * len(statuses))})" if statuses else ""
        return list(self._select(f"{where} ORDER BY priority DESC, id LIMIT ?", *statuses, limit))

    def latest(self, limit: int, *statuses: Status) -> list[Row]:
        """Those in one of `statuses` that ended last, the newest first."""
        where = f"WHERE status IN ({','.join('?' * len(statuses))})"
        return list(self._select(f"{where} ORDER BY finished_utc DESC, id DESC LIMIT ?", *statuses, limit))

    def newest(self, name: str, *statuses: Status) -> Row | None:
        """The last row of that name, in one of `statuses` where any is given."""
        among = f"AND status IN ({','.join('?' * len(statuses))})" if statuses else ""
        tail = f"WHERE name = {_TEXT} {among} ORDER BY id DESC LIMIT 1"
        return next(self._select(tail, os.fsencode(name), *statuses), None)

    def holder(self, key: str) -> Row | None:
        """The row that has this mask key."""
        return next(self._select("WHERE key = ?", key), None)

    def pending_counts(self) -> dict[Status, int]:
        """Scenes in every status that somebody or something still has to act on."""
        statuses = (*WAITING, *CLAIMED, Status.QUARANTINED)
        marks = ",".join("?" * len(statuses))
        sql = f"SELECT status, count(*) FROM jobs WHERE status IN ({marks}) GROUP BY status"
        found = dict(self._execute(sql, statuses))
        return {status: found.get(status.value, 0) for status in statuses}

    def counts(self) -> dict[Status, int]:
        found = dict(self._execute("SELECT status, count(*) FROM jobs GROUP BY status"))
        return {status: found.get(status.value, 0) for status in Status}

    def quarantine_reasons(self) -> dict[str, int]:
        """How many are in quarantine for which reason, the most frequent first."""
        sql = "SELECT coalesce(reason, ''), count(*) FROM jobs WHERE status = ? GROUP BY reason ORDER BY 2 DESC, 1"
        return dict(self._execute(sql, (Status.QUARANTINED,)))

    def oldest_pending_utc(self) -> str | None:
        statuses = (*WAITING, *CLAIMED)
        sql = f"SELECT min(seen_utc) FROM jobs WHERE status IN ({','.join('?' * len(statuses))})"
        found: str | None = self._execute(sql, statuses).fetchone()[0]
        return found

    def folders(self) -> dict[str, Path]:
        """`incoming` and `outgoing` of the daemon that last used this ledger."""
        return {name: Path(path) for name, path in self._execute("SELECT name, path FROM folders")}

    def check(self) -> str:
        """`ok`, or what SQLite found wrong."""
        return str(self._execute("PRAGMA integrity_check").fetchone()[0])

    def note_folders(self, **folders: Path) -> None:
        """For those who find the ledger alone: `incoming` and `outgoing`."""
        with self.transaction():
            for name, path in folders.items():
                self._execute(
                    f"INSERT OR REPLACE INTO folders VALUES (?, {_TEXT})", (name, os.fsencode(path.absolute()))
                )

    def seen(self, name: str, status: Status, priority: int, fingerprint: Fingerprint, found_by: str) -> int:
        """A new scene; returns its job, the ledger's number of it."""
        return self._insert(
            name=name, status=status, priority=priority, found_by=found_by, seen_utc=_utc(),
            **dataclasses.asdict(fingerprint),
        )  # fmt: skip

    def reserve(self, job: int) -> None:
        """New scenes get numbers above this one."""
        self._execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        self._execute("INSERT INTO sqlite_sequence VALUES ('jobs', ?)", (job,))

    def forget(self, rows: Iterable[Row]) -> None:
        """As if they had never been seen."""
        numbers = json.dumps([row.id for row in rows])
        among = "IN (SELECT value FROM json_each(?))"
        self._execute(f"UPDATE jobs SET duplicate_of = NULL WHERE duplicate_of {among}", (numbers,))
        self._execute(f"DELETE FROM jobs WHERE id {among}", (numbers,))

    def restored(self, name: str, status: Status, **columns: Any) -> None:
        """A scene that lies in one of our folders though the ledger does not know it."""
        now = _utc()
        self._insert(
            name=name, status=status, found_by="rebuild", seen_utc=now, finished_utc=None if status in CLAIMED else now,
            **{"inode": 0, "size_bytes": 0, "mtime_ns": 0, **columns},
        )  # fmt: skip

    def adopted(self, mask: str, key: str, input_sha256: str) -> None:
        """A mask that is visible though the ledger does not know it: that of a restored scene, or of none."""
        restored = f"mask = {_TEXT} AND status = 'PUBLISHED' AND key IS NULL AND products IS NULL"
        sql = f"SELECT min(id) FROM jobs WHERE {restored}"
        if (job := self._execute(sql, (os.fsencode(mask),)).fetchone()[0]) is not None:
            made = {"key": key, "input_sha256": input_sha256, "products": json.dumps([mask])}
            self._update(job, (Status.PUBLISHED,), **made)
            return
        self._insert(
            "IGNORE", name=mask, status=Status.PUBLISHED, inode=0, size_bytes=0, mtime_ns=0, found_by="mask", key=key,
            input_sha256=input_sha256, mask=mask, products=json.dumps([mask]), seen_utc=_utc(), finished_utc=_utc(),
        )  # fmt: skip

    def knows_mask(self, mask: str) -> bool:
        """Was a file of this name published, be its scene requeued since?"""
        return next(self._select("WHERE mask = ? AND products IS NOT NULL LIMIT 1", mask), None) is not None

    def resighted(self, job: int, status: Status, fingerprint: Fingerprint) -> None:
        """The file of a waiting row changed, or was given back complete."""
        self._update(job, (*WAITING, *CLAIMED), status=status, key=None, **dataclasses.asdict(fingerprint))

    def gathered(self, job: int, name: str, fingerprint: Fingerprint) -> None:
        """The files of a waiting scene became the folder `name`."""
        self._update(job, WAITING, name=name, **dataclasses.asdict(fingerprint))

    def claimed(self, job: int) -> None:
        self._update(job, WAITING, status=Status.CLAIMED, claimed_utc=_utc())

    def recovered(self, job: int) -> None:
        """Back to CLAIMED after the daemon died with it."""
        self._update(job, (*WAITING, *CLAIMED), status=Status.CLAIMED, key=None)

    def started(self, job: int) -> int:
        """The worker is about to begin: the attempt counts from here, whatever dies. Returns which one it is."""
        with self.transaction():
            self._execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", (job,))
            self._update(job, (Status.CLAIMED, Status.RETRY_WAIT), status=Status.CLAIMED)
        return int(self._execute("SELECT attempts FROM jobs WHERE id = ?", (job,)).fetchone()[0])

    def validated(self, job: int, key: str, input_sha256: str) -> Row | None:
        """The input is sound and its key known: note it, or return the other row that holds the key already."""
        holder = self.holder(key)
        if holder is not None and holder.id != job:
            return holder
        self._update(job, (Status.CLAIMED,), status=Status.VALIDATED, key=key, input_sha256=input_sha256)
        return None

    def running(self, job: int, mask: str) -> None:
        self._update(job, (Status.VALIDATED,), status=Status.RUNNING, mask=mask)

    def published(self, job: int, products: list[str]) -> None:
        now = _utc()
        with self.transaction():
            self._update(
                job, (Status.RUNNING,), status=Status.PUBLISHED, products=json.dumps(products), finished_utc=now,
                reason=None, message=None,
            )  # fmt: skip
            self._tell("published", job, now)

    def duplicate(self, job: int, of: int, input_sha256: str) -> None:
        self._update(
            job, (Status.CLAIMED, Status.RUNNING), status=Status.DUPLICATE, duplicate_of=of, input_sha256=input_sha256,
            key=None, finished_utc=_utc(), reason="duplicate", message=f"same bytes, model and settings as job {of}",
        )  # fmt: skip

    def failed(self, job: int, reason: str, message: str, worker_died: bool) -> Row:
        """A transient failure: the scene waits for its retry. Returns the row with its new counts."""
        column = "worker_deaths" if worker_died else "failures"
        with self.transaction():
            self._execute(f"UPDATE jobs SET {column} = {column} + 1 WHERE id = ?", (job,))
            self._update(job, CLAIMED, status=Status.RETRY_WAIT, key=None, reason=reason, message=message)
        row = self.row(job)
        assert row is not None
        return row

    def given_back(self, job: int) -> None:
        """The attempt was cut short through no fault of the scene (stop, full disk): it does not count."""
        with self.transaction():
            self._execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job,))
            self._update(job, CLAIMED, status=Status.CLAIMED, key=None)

    def quarantined(self, job: int, reason: str, message: str) -> None:
        now = _utc()
        with self.transaction():
            self._update(
                job, (*WAITING, *CLAIMED), status=Status.QUARANTINED, key=None, reason=reason, message=message,
                finished_utc=now,
            )  # fmt: skip
            self._tell("quarantined", job, now)

    def ignored(self, job: int, reason: str, message: str) -> None:
        self._update(
            job, (*WAITING, *CLAIMED, Status.QUARANTINED), status=Status.IGNORED, key=None, reason=reason,
            message=message, finished_utc=_utc(),
        )  # fmt: skip

    def requeued(self, job: int) -> None:
        """A finished scene goes round again, with all counts at 0; what it published may still be there."""
        self._update(
            job, (Status.QUARANTINED, Status.PUBLISHED, Status.DUPLICATE), status=Status.SEEN, key=None, attempts=0,
            failures=0, worker_deaths=0, duplicate_of=None, reason=None, message=None, claimed_utc=None,
            finished_utc=None,
        )  # fmt: skip

    def tell(self, event: str, message: str) -> None:
        """Of something that concerns no scene."""
        if self.outbox.wants.get(event):
            with self.transaction():
                self.outbox.add(event, _utc(), message=shown(message))

    def _tell(self, event: str, job: int, now: str) -> None:
        if self.outbox.wants.get(event) and (row := self.row(job)):
            self.outbox.add(
                event, now, job=job, scene=shown(row.name), reason=row.reason, message=shown(row.message or ""),
                mask_key=row.key, products=json.loads(row.products or "[]") if event == "published" else [],
            )  # fmt: skip

    def _insert(self, conflict: str = "ABORT", **columns: Any) -> int:
        marks = ", ".join(map(_mark, columns.values()))
        sql = f"INSERT OR {conflict} INTO jobs ({', '.join(columns)}) VALUES ({marks})"
        return int(self._execute(sql, [*map(_bound, columns.values())]).lastrowid or 0)

    def _select(self, tail: str, *values: Any) -> Iterator[Row]:
        columns = ", ".join(Row.__dataclass_fields__)
        for record in self._execute(f"SELECT {columns} FROM jobs {tail}", values):
            fields = dict(zip(Row.__dataclass_fields__, record, strict=True))
            yield Row(**{**fields, "status": Status(fields["status"])})

    def _update(self, job: int, expected: tuple[Status, ...], **columns: Any) -> None:
        """Change a row that must be in one of `expected`; anything else is a bug, or a second writer."""
        assignments = ", ".join(f"{name} = {_mark(value)}" for name, value in columns.items())
        marks = ",".join("?" * len(expected))
        sql = f"UPDATE jobs SET {assignments} WHERE id = ? AND status IN ({marks})"
        if self._execute(sql, (*map(_bound, columns.values()), job, *expected)).rowcount != 1:
            row = self.row(job)
            raise AssertionError(f"job {job} is {row and row.status}, expected one of {[s.value for s in expected]}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done inside, or nothing; one wait for the disk."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _mark(value: object) -> str:
    return _TEXT if isinstance(value, str) else "?"


def _bound(value: object) -> object:
    """Text as the bytes that it is, for `_TEXT`: a name need not be UTF-8."""
    return os.fsencode(value) if isinstance(value, str) else value


def _utc() -> str:
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="milliseconds")
