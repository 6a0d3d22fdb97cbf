"""What can be wrong with the ledger's file, how a message says so, and who else holds its lock.

Sources: SQLite's result codes (https://www.sqlite.org/rescode.html), its WAL format (https://www.sqlite.org/walformat.html,
section 2.2: the locks), proc_locks(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sqlite3
from pathlib import Path

from sarwater.errors import ConfigurationError

FILE_SUFFIXES = ("", "-wal", "-shm")
"""Of the database, its write-ahead log and the log's index."""
_UNUSABLE = ("unable to open", "attempt to write a readonly", "no such ", "malformed")
_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""Reasons for which a file cannot be opened that are no fault of the file."""
_WRITE_LOCK = 120
"""The byte of the log's index whose lock every writer takes."""
_TEXTS = ("seen_utc", "claimed_utc", "finished_utc")
_IMPOSSIBLE = " OR ".join(
    (
        "id NOT BETWEEN 1 AND 999999999999999",
        "name IN ('', '.', '..') OR instr(name, '/') OR instr(CAST(name AS BLOB), x'00')",
        "length(CAST(name AS BLOB)) > 255",
        "instr(mask, '/') OR mask = ''",
        "min(size_bytes, attempts, failures, worker_deaths) < 0",
        "products IS NOT NULL AND NOT json_valid(products)",
        "duplicate_of IS NOT NULL AND duplicate_of NOT IN (SELECT id FROM jobs)",
        *(f"{column} IS NOT NULL AND ({column} NOT LIKE '____-__-__%' OR julianday({column}) IS NULL)"
          for column in _TEXTS),
    )
)  # fmt: skip


class LedgerDamaged(ConfigurationError):
    """The ledger cannot be used as it is. Masks, inputs and quarantine are whole without it."""

    def __init__(self, path: Path, why: object, otherwise: str = "") -> None:
        super().__init__(
            f"{path}: not a sound ledger ({why}); run `sarwater queue rebuild --state {shlex.quote(str(path.parent))}` "
            f"as the daemon's user, which makes it anew from what lies in the folders, then start again{otherwise}"
        )


def is_damage(error: BaseException) -> bool:
    """Does SQLite say that the file is broken or unfit, rather than that it cannot be used for the moment?"""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith(_UNUSABLE)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError)


def is_locked(error: sqlite3.OperationalError) -> bool:
    """Does another process hold it for the moment?"""
    return "is locked" in str(error) or "locking protocol" in str(error)


def as_damage(path: Path, error: sqlite3.DatabaseError) -> LedgerDamaged | OSError:
    """The error to raise for one that `is_damage`: an OSError where the machine is at fault."""
    for file in files_of(path):
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CLOEXEC))
        except OSError as cause:
            if cause.errno in _MACHINE:
                return cause
            mine = f"; if that is wrong, grant user {os.geteuid()} write permission on it instead"
            return LedgerDamaged(path, f"{file.name}: {cause.strerror}", mine)
    return LedgerDamaged(path, error)


def files_of(path: Path) -> list[Path]:
    """Those of database, log and index that are there, whatever they are."""
    return [file for suffix in FILE_SUFFIXES if os.path.lexists(file := path.with_name(path.name + suffix))]


def strange_file(path: Path) -> str:
    """One of them that SQLite must not open, as it would wait for a pipe; empty where none is."""
    return next((f"{file.name} is no regular file" for file in files_of(path) if not file.is_file()), "")


def impossible_row(db: sqlite3.Connection) -> str:
    """The first row that no daemon can have written, which a file with sound pages may hold; empty where none is."""
    found = db.execute(f"SELECT id FROM jobs WHERE {_IMPOSSIBLE} LIMIT 1").fetchone()
    return f"job {found[0]} has a value that cannot be" if found else ""


def holder_of(path: Path) -> str:
    """Who holds the writers' lock of the ledger at `path`, as far as this machine tells."""
    with contextlib.suppress(OSError, ValueError):
        # Looked up, never opened: closing a file gives up all locks that this process has on it.
        index = path.with_name(f"{path.name}-shm").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, access, pid, file, first, last = line.split()[:8]
            if kind != "POSIX" or access != "WRITE" or int(file.rpartition(":")[2]) != index:
                continue
            if int(first) <= _WRITE_LOCK and (last == "EOF" or int(last) >= _WRITE_LOCK) and int(pid) != os.getpid():
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                return f"process {pid} ({name})"
    return "another process"
