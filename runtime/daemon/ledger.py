"""The ledger: one row per scene in SQLite, written before and after everything that must survive a power cut.

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
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.daemon.fingerprint import Signature
from sarwater.errors import ConfigurationError

FILE_NAME = "ledger.sqlite"
_VERSION = 1


class State(str, Enum):
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


WAITING = (State.SEEN, State.SETTLING)
"""Still in the inbox."""
CLAIMED = (State.CLAIMED, State.VALIDATED, State.RUNNING, State.RETRY_WAIT)
"""Taken out of the inbox and not finished."""

_SCHEMA = f"""
CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ({", ".join(f"'{state.value}'" for state in State)})),
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
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True)
class Row:
    """One scene. `key` is set only while the scene is worked on and after it was published: the same bytes may be
    tried again after a quarantine."""

    id: int
    name: str
    state: State
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

    @property
    def signature(self) -> Signature:
        """Of the input when it was last looked at."""
        return Signature(self.inode, self.size_bytes, self.mtime_ns)

    @property
    def interruptions(self) -> int:
        """Attempts that ended with the whole daemon."""
        return self.attempts - self.failures - self.worker_deaths


class Ledger:
    """A context manager. `read_only` is for those who look while the daemon runs.

    Raises ConfigurationError for a file that is no ledger or of another version, sqlite3.OperationalError where the
    disk is full or broken.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        mode = "ro" if read_only else "rwc"
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30
        )
        try:
            self._db.execute("PRAGMA foreign_keys = ON")
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not read_only:
                with self._transaction():
                    for statement in _SCHEMA.split(";\n"):
                        self._db.execute(statement)
            elif version == 0:
                raise ConfigurationError(f"{path}: empty; start the daemon, which fills it once there is room")
            elif version != _VERSION:
                raise ConfigurationError(f"{path}: ledger of version {version}, expected {_VERSION}; move it away")
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise ConfigurationError(
                    f"{path}: not a sound ledger ({error}); move it away and start again"
                ) from error
            raise

    def row(self, job: int) -> Row | None:
        return next(self._select("WHERE id = ?", job), None)

    def rows(self, *states: State) -> list[Row]:
        """All rows in one of `states` (all without), in the order in which they are worked off."""
        where = f"WHERE state IN ({','.join('?' * len(states))})" if states else ""
        return list(self._select(f"{where} ORDER BY priority DESC, id", *states))

    def newest(self, name: str) -> Row | None:
        return next(self._select("WHERE name = ? ORDER BY id DESC LIMIT 1", name), None)

    def holder(self, key: str) -> Row | None:
        """The row that has this job key."""
        return next(self._select("WHERE key = ?", key), None)

    def pending_counts(self) -> dict[State, int]:
        """Scenes in every state that somebody or something still has to act on."""
        states = (*WAITING, *CLAIMED, State.QUARANTINED)
        marks = ",".join("?" * len(states))
        sql = f"SELECT state, count(*) FROM jobs WHERE state IN ({marks}) GROUP BY state"
        found = dict(self._db.execute(sql, states))
        return {state: found.get(state.value, 0) for state in states}

    def counts(self) -> dict[State, int]:
        found = dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        return {state: found.get(state.value, 0) for state in State}

    def oldest_pending_utc(self) -> str | None:
        states = (*WAITING, *CLAIMED)
        sql = f"SELECT min(seen_utc) FROM jobs WHERE state IN ({','.join('?' * len(states))})"
        found: str | None = self._db.execute(sql, states).fetchone()[0]
        return found

    def folders(self) -> dict[str, Path]:
        """`incoming` and `outgoing` of the daemon that last used this ledger."""
        return {name: Path(path) for name, path in self._db.execute("SELECT name, path FROM folders")}

    def check(self) -> str:
        """`ok`, or what SQLite found wrong."""
        return str(self._db.execute("PRAGMA integrity_check").fetchone()[0])

    def note_folders(self, **folders: Path) -> None:
        """For those who find the ledger alone: `incoming` and `outgoing`."""
        with self._transaction():
            for name, path in folders.items():
                self._db.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (name, str(path.absolute())))

    def seen(self, sightings: Iterable[dict[str, Any]]) -> list[int]:
        """New scenes, in one transaction; returns their job numbers. Keys: name, state, priority, inode, size_bytes,
        mtime_ns, found_by."""
        jobs = []
        with self._transaction():
            for sighting in sightings:
                columns = {**sighting, "seen_utc": _utc()}
                marks = ", ".join(f":{name}" for name in columns)
                sql = f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})"
                jobs.append(int(self._db.execute(sql, columns).lastrowid or 0))
        return jobs

    def adopted(self, masks: Iterable[tuple[str, str, str]]) -> None:
        """Masks that are visible though the ledger does not know them, as (file name, job key, sha256 of the input)."""
        with self._transaction():
            for mask, key, input_sha256 in masks:
                columns = {
                    "name": mask, "state": State.PUBLISHED, "inode": 0, "size_bytes": 0, "mtime_ns": 0,
                    "found_by": "mask", "key": key, "input_sha256": input_sha256, "mask": mask,
                    "products": json.dumps([mask]), "seen_utc": _utc(), "finished_utc": _utc(),
                }  # fmt: skip
                marks = ", ".join(f":{name}" for name in columns)
                self._db.execute(f"INSERT OR IGNORE INTO jobs ({', '.join(columns)}) VALUES ({marks})", columns)

    def knows_mask(self, mask: str) -> bool:
        """Was a file of this name published, be its scene requeued since?"""
        return next(self._select("WHERE mask = ? AND products IS NOT NULL LIMIT 1", mask), None) is not None

    def resighted(self, job: int, state: State, signature: Signature) -> None:
        """The file of a waiting row changed, or was given back complete."""
        self._update(job, (*WAITING, *CLAIMED), state=state, key=None, **dataclasses.asdict(signature))

    def claimed(self, job: int) -> None:
        self._update(job, WAITING, state=State.CLAIMED, claimed_utc=_utc())

    def recovered(self, job: int) -> None:
        """Back to CLAIMED after the daemon died with it."""
        self._update(job, (*WAITING, *CLAIMED), state=State.CLAIMED, key=None)

    def started(self, job: int) -> int:
        """The worker is about to begin: the attempt counts from here, whatever dies. Returns which one it is."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", (job,))
            self._update(job, (State.CLAIMED, State.RETRY_WAIT), state=State.CLAIMED)
        return int(self._db.execute("SELECT attempts FROM jobs WHERE id = ?", (job,)).fetchone()[0])

    def validated(self, job: int, key: str, input_sha256: str) -> Row | None:
        """The input is sound and its key known: note it, or return the other row that holds the key already."""
        holder = self.holder(key)
        if holder is not None and holder.id != job:
            return holder
        self._update(job, (State.CLAIMED,), state=State.VALIDATED, key=key, input_sha256=input_sha256)
        return None

    def running(self, job: int, mask: str) -> None:
        self._update(job, (State.VALIDATED,), state=State.RUNNING, mask=mask)

    def published(self, job: int, products: list[str]) -> None:
        self._update(
            job, (State.RUNNING,), state=State.PUBLISHED, products=json.dumps(products), finished_utc=_utc(),
            reason=None, message=None,
        )  # fmt: skip

    def duplicate(self, job: int, of: int, input_sha256: str) -> None:
        self._update(
            job, (State.CLAIMED, State.RUNNING), state=State.DUPLICATE, duplicate_of=of, input_sha256=input_sha256,
            key=None, finished_utc=_utc(), reason="duplicate", message=f"same bytes, model and settings as job {of}",
        )  # fmt: skip

    def failed(self, job: int, reason: str, message: str, worker_died: bool) -> Row:
        """A transient failure: the scene waits for its retry. Returns the row with its new counts."""
        column = "worker_deaths" if worker_died else "failures"
        with self._transaction():
            self._db.execute(f"UPDATE jobs SET {column} = {column} + 1 WHERE id = ?", (job,))
            self._update(job, CLAIMED, state=State.RETRY_WAIT, key=None, reason=reason, message=message)
        row = self.row(job)
        assert row is not None
        return row

    def given_back(self, job: int) -> None:
        """The attempt was cut short through no fault of the scene (stop, full disk): it does not count."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job,))
            self._update(job, CLAIMED, state=State.CLAIMED, key=None)

    def quarantined(self, job: int, reason: str, message: str) -> None:
        self._update(
            job, (*WAITING, *CLAIMED), state=State.QUARANTINED, key=None, reason=reason, message=message,
            finished_utc=_utc(),
        )  # fmt: skip

    def ignored(self, job: int, reason: str, message: str) -> None:
        self._update(
            job, (*WAITING, *CLAIMED, State.QUARANTINED), state=State.IGNORED, key=None, reason=reason, message=message,
            finished_utc=_utc(),
        )  # fmt: skip

    def requeued(self, job: int) -> None:
        """An operator sends a finished scene round again, with a clean slate; what it published may still be there."""
        self._update(
            job, (State.QUARANTINED, State.PUBLISHED, State.DUPLICATE), state=State.SEEN, key=None, attempts=0,
            failures=0, worker_deaths=0, duplicate_of=None, reason=None, message=None, claimed_utc=None,
            finished_utc=None,
        )  # fmt: skip

    def _select(self, tail: str, *values: Any) -> Iterator[Row]:
        columns = ", ".join(Row.__dataclass_fields__)
        for record in self._db.execute(f"SELECT {columns} FROM jobs {tail}", values):
            fields = dict(zip(Row.__dataclass_fields__, record, strict=True))
            yield Row(**{**fields, "state": State(fields["state"])})

    def _update(self, job: int, expected: tuple[State, ...], **columns: Any) -> None:
        """Change a row that must be in one of `expected`; anything else is a bug, or a second writer."""
        assignments = ", ".join(f"{name} = ?" for name in columns)
        marks = ",".join("?" * len(expected))
        sql = f"UPDATE jobs SET {assignments} WHERE id = ? AND state IN ({marks})"
        if self._db.execute(sql, (*columns.values(), job, *expected)).rowcount != 1:
            row = self.row(job)
            raise AssertionError(f"job {job} is {row and row.state}, expected one of {[s.value for s in expected]}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _utc() -> str:
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="milliseconds")
