"""`sarwater queue`: look into the ledger while the daemon runs, and decide about scenes in quarantine."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from runtime.daemon.damage import as_damage, is_damage, is_locked
from runtime.daemon.fingerprint import fingerprint_of
from runtime.daemon.folders import Folders
from runtime.daemon.item import ItemError, about, shown
from runtime.daemon.ledger import CLAIMED, FILE_NAME, WAITING, Ledger, Row, Status
from runtime.daemon.lock import Lock
from runtime.daemon.rebuild import is_sound, rebuild
from sarwater.command import Group, invoke, option, run
from sarwater.errors import SarwaterError, UsageError, expected

_STATUSES = (*Status.__members__, "ALL")
_EXAMPLES = """
sarwater queue list --state /var/lib/sarwater
sarwater queue list QUARANTINED --json
sarwater queue show 17
sarwater queue requeue 17 18
sarwater queue drop 19
sarwater queue stats
sarwater queue rebuild --state /var/lib/sarwater
"""
_PENDING = (*WAITING, *CLAIMED, Status.QUARANTINED)
_COLUMNS = ("id", "status", "name", "size_bytes", "priority", "attempts", "seen_utc", "reason")
_SECONDS = len("2026-01-31T12:00:00")


def _at(function: Callable[..., int]) -> Callable[..., int]:
    """`--state` and `--json`, before the subcommand or after it."""
    for add in (
        option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
        option("--state", metavar="DIR", help="The daemon's state folder. [default: $SARWATER_STATE]"),
    ):
        function = add(function)
    return function


@click.group("queue", cls=Group, help="Look into the daemon's ledger, and decide about scenes.", examples=_EXAMPLES)
@_at
@click.pass_context
def queue(ctx: click.Context, state: str | None, as_json: bool) -> int:
    ctx.obj = {"state": state, "as_json": as_json}
    return 0


@contextmanager
def _ledger(state: str | None, *, read_only: bool) -> Iterator[tuple[Ledger, Path]]:
    """The ledger of the folder named, on either side of the subcommand, or else in the environment. Raises UsageError
    where there is none."""
    folder = _state_folder(state)
    file = folder / FILE_NAME
    if not os.path.lexists(file):
        raise UsageError(f"{file}: no such ledger; expected the state folder of a daemon")
    try:
        with Ledger(file, read_only=read_only) as ledger:
            yield ledger, folder
    except sqlite3.OperationalError as error:
        what_now = "end what holds it, then try again" if is_locked(error) else "run this as the daemon's user"
        raise SarwaterError(f"{file}: {error}; {what_now}") from error
    except sqlite3.DatabaseError as error:
        raise (as_damage(file, error) if is_damage(error) else error) from error
    except OSError as error:
        raise SarwaterError(f"{error.filename or file}: {error.strerror}; run this as the daemon's user") from error


def _state_folder(state: str | None) -> Path:
    named = state or click.get_current_context().obj["state"] or os.environ.get("SARWATER_STATE")
    if not named:
        raise UsageError("no state folder named; give --state DIR, or set SARWATER_STATE")
    return Path(named)


def _wants_json(as_json: bool) -> bool:
    return as_json or bool(click.get_current_context().obj["as_json"])


@queue.subcommand(
    "list",
    f"Scenes that are pending or in quarantine, or of the status named. A STATUS is one of: {', '.join(_STATUSES)}.",
)
@click.argument("statuses", nargs=-1, metavar="[STATUS]...")
@_at
def list_command(statuses: Sequence[str], state: str | None, as_json: bool) -> int:
    with _ledger(state, read_only=True) as (ledger, _):
        _print_rows(ledger.rows(*_statuses(statuses)), _wants_json(as_json))
    return 0


@queue.subcommand("stats", "How many scenes have which status.")
@_at
def stats_command(state: str | None, as_json: bool) -> int:
    with _ledger(state, read_only=True) as (ledger, _):
        _print_pairs({key.value: count for key, count in ledger.counts().items()}, _wants_json(as_json))
    return 0


@queue.subcommand("show", "All that is known of a scene.")
@click.argument("job", type=int, metavar="JOB")
@_at
def show_command(job: int, state: str | None, as_json: bool) -> int:
    with _ledger(state, read_only=True) as (ledger, _):
        _print_pairs(_facts(_row(ledger, job)), _wants_json(as_json))
    return 0


@queue.subcommand("requeue", "Send finished or quarantined scenes round again, with all counts at 0.")
@click.argument("jobs", nargs=-1, required=True, type=int, metavar="JOB...")
@_at
def requeue_command(jobs: Sequence[int], state: str | None, as_json: bool) -> int:
    return _decide(_requeue, jobs, state)


@queue.subcommand("drop", "Delete quarantined scenes for good.")
@click.argument("jobs", nargs=-1, required=True, type=int, metavar="JOB...")
@_at
def drop_command(jobs: Sequence[int], state: str | None, as_json: bool) -> int:
    return _decide(_drop, jobs, state)


@queue.subcommand(
    "rebuild", "Make a damaged ledger anew, from what lies in the daemon's folders. The daemon must not run."
)
@_at
def rebuild_command(state: str | None, as_json: bool) -> int:
    folder = _state_folder(state)
    if not any((folder / name).exists() for name in ("lock", "work", "done", "quarantine")):
        raise UsageError(f"{folder}: no state folder of a daemon; expected one with work, done and quarantine")
    file = folder / FILE_NAME
    try:
        with Lock(folder):
            if is_sound(file):
                print(f"{file}: sound; nothing to make anew")
                return 0
            counts, aside = rebuild(folder)
    except (OSError, sqlite3.OperationalError) as error:
        raise SarwaterError(f"{file}: cannot be made anew ({error}); run this as the daemon's user") from error
    if _wants_json(as_json):
        _print_pairs({status.value: count for status, count in counts.items()}, as_json=True)
        return 0
    print(f"{file}: made anew; what was there is kept as {aside}")
    _print_pairs({status.value: count for status, count in counts.items()}, as_json=False)
    print("The next start of the daemon adds the masks that are visible, and what waits in the inbox.")
    return 0


def _decide(decide: Callable[[Ledger, Folders, Row], None], jobs: Sequence[int], named: str | None) -> int:
    with _ledger(named, read_only=False) as (ledger, state):
        paths = ledger.folders()
        if not paths:
            raise UsageError(f"{state}: its ledger names no inbox; start the daemon once, which notes it")
        folders = Folders(paths["incoming"], paths["outgoing"], state)
        for job in jobs:
            decide(ledger, folders, _row(ledger, job))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Raises UsageError for a job that is not there or of the wrong status."""
    return invoke(queue, argv)


def cli() -> int:
    return run(queue)


def _statuses(names: Sequence[str]) -> tuple[Status, ...]:
    if not names:
        return _PENDING
    wanted = [name.upper() for name in names]
    if unknown := [name for name in wanted if name not in _STATUSES]:
        raise UsageError(f"{unknown[0]}: no such status; {expected(unknown[0], _STATUSES)}")
    return tuple(Status) if "ALL" in wanted else tuple(Status[name] for name in wanted)


def _row(ledger: Ledger, job: int) -> Row:
    row = ledger.row(job)
    if row is None:
        raise UsageError(
            f"job {job}: not in the ledger; `sarwater queue list ALL` with the same --state shows every job"
        )
    return row


def _requeue(ledger: Ledger, folders: Folders, row: Row) -> None:
    """First the ledger, then the rename that the daemon notices; a crash between the two is put right by `recover`.

    What else lies in quarantine is left to the daemon's claim: it may have quarantined the scene again already.
    """
    if row.status not in (Status.QUARANTINED, Status.PUBLISHED, Status.DUPLICATE):
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
    print(f"{shown(row.name)}: {'waits again' if stays else 'back'} in {folders.incoming}")


def _lies_there(inbox: Path, row: Row) -> bool:
    """Is it the very scene, which was never moved because the inbox is read-only?"""
    try:
        with about(inbox.name):
            return fingerprint_of(inbox) == row.fingerprint
    except (FileNotFoundError, ItemError):
        return False


def _drop(ledger: Ledger, folders: Folders, row: Row) -> None:
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
    print(
        f"{shown(row.name)}: {'deleted from quarantine' if there else f'was not in {folder}; dropped from the ledger'}"
    )


def _facts(row: Row) -> dict[str, Any]:
    facts = {key: value for key, value in dataclasses.asdict(row).items() if value is not None}
    facts |= {key: shown(facts[key]) for key in ("name", "message") if key in facts}
    return {**facts, "status": row.status.value, "products": json.loads(row.products or "[]")}


def _print_rows(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        print(json.dumps([_facts(row) for row in rows], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in ("id", "size_bytes", "priority", "attempts") else "left")
    for row in rows:
        facts = {**_facts(row), "seen_utc": row.seen_utc[:_SECONDS]}
        table.add_row(*(str(facts.get(column, "")) for column in _COLUMNS))
    # Of any width: a name that is cut is no use, on a terminal no more than to grep and awk.
    Console(highlight=False, markup=False, width=1000).print(table)


def _print_pairs(pairs: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(pairs, indent=2, ensure_ascii=False))
    else:
        for key, value in pairs.items():
            print(f"{key:<16} {', '.join(value) if isinstance(value, list) else value}")


if __name__ == "__main__":
    sys.exit(cli())
