"""The two things that a person may decide about a scene, while the daemon runs and while it does not."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from runtime.daemon.fingerprint import fingerprint_of
from runtime.daemon.folders import Folders
from runtime.daemon.item import ItemError, looking_at, shown
from runtime.daemon.ledger import WAITING, Ledger, Row, Status
from sarwater.errors import SarwaterError, UsageError

REQUEUED = (Status.QUARANTINED, Status.PUBLISHED, Status.DUPLICATE)
"""What can be sent round again."""


def folders_of(ledger: Ledger, state: Path) -> Folders:
    """Of the daemon that last used this ledger. Raises UsageError where it does not say."""
    paths = ledger.folders()
    if not {"incoming", "outgoing"} <= paths.keys():
        raise UsageError(f"{state}: its ledger names no inbox; start the daemon once, which notes it")
    return Folders(paths["incoming"], paths["outgoing"], state)


def requeue(ledger: Ledger, folders: Folders, row: Row) -> str:
    """Send a finished or quarantined scene round again; returns what was done. Raises UsageError where that cannot be.

    First the ledger, then the rename that the daemon notices; a crash between the two is put right by `recover`.
    What else lies in quarantine is left to the daemon's claim: it may have quarantined the scene again already.
    """
    if row.status not in REQUEUED:
        raise UsageError(
            f"job {row.id} ({shown(row.name)}) is {row.status.value}; "
            "only finished or quarantined scenes can be requeued"
        )
    source = folders.quarantined(row.id, row.name) or folders.done_copy(row.id, row.name)
    inbox = folders.incoming / row.name
    waiting = ledger.newest(row.name, *WAITING)
    if waiting is not None:
        raise UsageError(
            f"job {row.id}: {shown(row.name)} waits in the inbox as job {waiting.id}; try again "
            "once that one was claimed"
        )
    stays = source is None and _lies_there(inbox, row)
    if source is None and not stays:
        raise UsageError(
            f"job {row.id}: {shown(row.name)} is neither in {folders.quarantine} nor in {folders.done}; send it again"
        )
    if os.path.lexists(inbox) and not stays:
        raise UsageError(f"{inbox}: exists; wait until that one was claimed, then try again")
    try:
        ledger.requeued(row.id)
    except sqlite3.IntegrityError:
        raise UsageError(f"job {row.id}: another scene of its name arrived just now; try again later") from None
    if source is not None:
        folders.release(source, row.name)
    return f"{shown(row.name)}: {'waits again' if stays else 'back'} in {folders.incoming}"


def _lies_there(inbox: Path, row: Row) -> bool:
    """Is it the very scene, which was never moved because the inbox is read-only?"""
    try:
        with looking_at(inbox.name):
            return fingerprint_of(inbox) == row.fingerprint
    except (FileNotFoundError, ItemError):
        return False


def drop(ledger: Ledger, folders: Folders, row: Row) -> str:
    """Delete a quarantined scene for good; returns what was done. Raises UsageError, SarwaterError."""
    if row.status is not Status.QUARANTINED:
        raise UsageError(
            f"job {row.id} ({shown(row.name)}) is {row.status.value}; only quarantined scenes can be dropped"
        )
    ledger.ignored(row.id, "dropped", f"dropped by an operator; it was quarantined as {row.reason}: {row.message}")
    folder = folders.quarantine_folder(row.id)
    there = folders.quarantined(row.id, row.name) is not None
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise SarwaterError(f"{folder}: cannot be removed whole; remove what is left by hand")
    return (
        f"{shown(row.name)}: {'deleted from quarantine' if there else f'was not in {folder}; dropped from the ledger'}"
    )
