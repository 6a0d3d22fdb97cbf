"""The ledger made anew after damage, from what lies in the folders: work, quarantine and done; or put back to a copy.

What a copy says of finished scenes is taken as it is. Of all others the folders say where they are by now: no scene is
lost or made twice, however old the copy is.

Masks are not looked at here: those that the ledger does not know are adopted at every start of the daemon (`recovery`),
and a restored scene takes over the mask that is called as its own would be.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.damage import LedgerDamaged, files_of
from runtime.daemon.fingerprint import fingerprint_of
from runtime.daemon.folders import REASON, Folders, input_name, numbered, reason_in, same_bytes
from runtime.daemon.item import ItemError, about
from runtime.daemon.ledger import CLAIMED, FILE_NAME, WAITING, Ledger, Status
from sarwater.atomic import fsync_folder, replacing
from sarwater.errors import ConfigurationError
from sarwater.identity import mask_name, stem_of

_OWNER_READS_AND_WRITES = 0o600
_JOB = re.compile(r"[0-9]{8,9}")
_MOST_JOBS = 10**9
_NUMBERED = re.compile(r"\.([0-9]{1,7})(?:\.[^.]*)?$")
"""A scene under done whose name was there before (`Folders.done_path`)."""


@dataclass
class Salvage:
    """What a damaged ledger still tells, as far as it makes sense; believed only about what nothing else tells."""

    names: dict[int, str] = field(default_factory=dict)
    """What each scene was called in the inbox, by job."""
    folders: dict[str, Path] = field(default_factory=dict)
    """As Ledger.folders."""


def back_up(path: Path, to: Path) -> None:
    """A copy of the ledger at `path`, of one moment, whoever writes to it. Raises sqlite3.Error, OSError."""
    with replacing(to) as temporary, contextlib.closing(_reader(path, "mode=ro")) as db:
        db.execute("VACUUM INTO ?", (str(temporary),))


def restore(ledger: Ledger, folders: Folders, names: Mapping[int, str] | None = None) -> dict[Status, int]:
    """Enter every scene that lies in our folders and is not in the ledger; returns how many it has of which status.

    `names` are those of jobs. A claimed scene whose name nobody knows is left out: `recover` gives it back to the inbox
    under a new one.
    """
    names = names or {}
    numbers = [job for job, _ in (*_jobs(folders.quarantine), *_jobs(folders.work))]
    numbers += [int(match[1]) for name in _names(folders.done) if (match := _NUMBERED.search(name))]
    with ledger.transaction():
        ledger.reserve(max((*numbers, *names), default=0))  # what lies under a number is never taken for a new scene's
        for job, folder in _jobs(folders.quarantine):
            with _about_folder(folder):
                if ledger.row(job) is None:
                    _restore_quarantined(ledger, folders, job, names)
        for job, folder in _jobs(folders.work):
            with _about_folder(folder):
                if ledger.row(job) is None and (name := names.get(job)) and folders.held(job, name):
                    folders.forget_quarantine(job, name)
                    found = fingerprint_of(folder / input_name(name))
                    ledger.restored(name, Status.CLAIMED, id=job, **vars(found))
        for name in _names(folders.done):
            if not _is_set_aside(folders.done / name) and not _is_known(ledger, name):
                ledger.restored(name, Status.PUBLISHED, mask=mask_name(stem_of(name)))
    return {status: count for status, count in ledger.counts().items() if count}


def rebuild(state: Path, copy: Path | None = None) -> tuple[dict[Status, int], Path | None]:
    """Make the ledger anew, with the past of `copy` where there is one, and keep what was there under another name:
    (scenes by status, that name).

    Only for who holds the lock of the state folder. Raises OSError; LedgerDamaged for a copy that is no ledger.
    """
    path, new = state / FILE_NAME, state / f".{FILE_NAME}.new"
    folders = Folders(state, state, state)  # only what lies in the state folder is looked at
    salvage = salvaged(path)
    for left in files_of(new):
        left.unlink()
    if copy:
        back_up(copy, new)
    with Ledger(new) as ledger:
        names = {**_forget_pending(ledger, folders), **salvage.names}
        counts = restore(ledger, folders, names)
        if salvage.folders:
            ledger.note_folders(**salvage.folders)
    if os.geteuid() == 0:
        os.chown(new, state.stat().st_uid, state.stat().st_gid)
    aside = _move_aside(path)
    os.rename(new, path)
    fsync_folder(state)
    return counts, aside


def _forget_pending(ledger: Ledger, folders: Folders) -> dict[int, str]:
    """Leave to the folders what is not finished, or was sent round again since; returns the names of those, by job."""
    claimed, quarantined = ({job for job, _ in _jobs(folder)} for folder in (folders.work, folders.quarantine))
    forgotten = [
        row
        for row in ledger.rows()
        if row.status in (*WAITING, *CLAIMED)
        or row.id in claimed
        or (row.id in quarantined) != (row.status is Status.QUARANTINED)
    ]
    with ledger.transaction():
        ledger.forget(forgotten)
    return {row.id: row.name for row in forgotten}


def is_sound(path: Path) -> bool:
    """Is there a ledger with which a daemon can start?"""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    status, owner = path.stat(), path.parent.stat().st_uid
    if status.st_mode & _OWNER_READS_AND_WRITES != _OWNER_READS_AND_WRITES or status.st_uid != owner:
        return False  # root can use it, the daemon cannot
    try:
        with Ledger(path):
            return True
    except LedgerDamaged:
        return False


def is_ledger(path: Path) -> bool:
    """Can it be looked into, as one of this version or an earlier?"""
    try:
        with Ledger(path, read_only=True) as ledger:
            return ledger.check() == "ok"
    except (ConfigurationError, sqlite3.Error):
        return False


def salvaged(path: Path) -> Salvage:
    """Whatever can be read of a damaged ledger, row by row."""
    salvage = Salvage()
    if not path.is_file():
        return salvage
    for query in ("mode=ro", "mode=ro&immutable=1"):  # with its write-ahead log, or without
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_reader(path, query)) as db:
            for job, name in _readable(db, "SELECT id, name FROM jobs WHERE id > ? ORDER BY id LIMIT 1"):
                if job < _MOST_JOBS and isinstance(name, str) and _is_name(name):
                    salvage.names.setdefault(job, name)
            for key, text in _readable(db, "SELECT rowid, name || '=' || path FROM folders WHERE rowid > ? LIMIT 1"):
                name, _, folder = str(text).partition("=")
                if name in ("incoming", "outgoing") and folder.startswith("/") and key:
                    salvage.folders.setdefault(name, Path(folder))
    if salvage.folders.keys() != {"incoming", "outgoing"}:
        salvage.folders.clear()
    return salvage


def _reader(path: Path, query: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{query}", uri=True, timeout=1)
    db.text_factory = os.fsdecode
    return db


def _readable(db: sqlite3.Connection, sql: str) -> Iterator[tuple[int, object]]:
    """(key, value) of the rows up to the first that cannot be read."""
    key = 0
    while record := db.execute(sql, (key,)).fetchone():
        if not isinstance(record[0], int) or record[0] <= key:
            return
        key = record[0]
        yield key, record[1]


def _restore_quarantined(ledger: Ledger, folders: Folders, job: int, names: Mapping[int, str]) -> None:
    folder = folders.quarantine_folder(job)
    reason, message, told = reason_in(folder)
    name = names.get(job) or _scene_in(folder) or (told if _is_name(told) else f"recovered-{job:08d}")
    held, left = folders.held(job, name), folders.quarantined(job, name)
    if left is None and (held or not (folder / REASON).is_file()):
        return  # what an earlier round left
    if held and left and not same_bytes(held, left):
        return  # another scene was claimed under its number; the one in quarantine is kept when that is entered
    ledger.restored(name, Status.QUARANTINED, id=job, reason=reason, message=message)


def _jobs(parent: Path) -> Iterator[tuple[int, Path]]:
    """The folders under work or quarantine that carry a job's number."""
    for name in _names(parent):
        if _JOB.fullmatch(name) and name == f"{int(name):08d}" and int(name) and (parent / name).is_dir():
            yield int(name), parent / name


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _scene_in(folder: Path) -> str | None:
    """What the scene in a folder of quarantine is called, where that is its own name."""
    ours = (REASON, "marker", "manifest")
    names = [name for name in os.listdir(folder) if name not in ours and not name.startswith(("input.", "."))]
    return names[0] if len(names) == 1 and names[0] != "input" else None


def _is_known(ledger: Ledger, name: str) -> bool:
    """Is what lies under done the scene of a row?"""
    finished = (Status.PUBLISHED, Status.DUPLICATE)
    if ledger.newest(name, *finished):
        return True
    number = _NUMBERED.search(name)
    row = ledger.row(int(number[1])) if number else None
    return row is not None and row.status in finished and numbered(row.name, str(row.id)) == name


def _is_set_aside(path: Path) -> bool:
    """A scene that could be neither moved nor removed, with the folder it was worked on in."""
    return _JOB.fullmatch(path.name) is not None and path.is_dir()


def _is_name(name: str) -> bool:
    size = len(name.encode(errors="surrogatepass"))
    return 0 < size <= 255 and name not in (".", "..") and "/" not in name and "\0" not in name


@contextlib.contextmanager
def _about_folder(folder: Path) -> Iterator[None]:
    """A folder that cannot be looked into is left for `recover`, which says so."""
    with contextlib.suppress(FileNotFoundError, ItemError), about(folder.name):
        yield


def _move_aside(path: Path) -> Path | None:
    """Database, log and index, whatever they are, under a name that is free; None where there is none of them."""
    asides = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(aside for aside in asides if not files_of(aside))
    files = files_of(path)
    for file in reversed(files):  # the log first: SQLite would play one that is left into the new database
        os.rename(file, f"{aside}{file.name.removeprefix(path.name)}")
    return aside if files else None
