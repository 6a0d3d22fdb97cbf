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

from runtime.daemon.folders import Folders
from runtime.daemon.item import shown
from runtime.daemon.ledger import CLAIMED, FILE_NAME, WAITING, Ledger, Row, Status
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
    named = state or click.get_current_context().obj["state"] or os.environ.get("SARWATER_STATE")
    if not named:
        raise UsageError("no state folder named; give --state DIR, or set SARWATER_STATE")
    file = Path(named) / FILE_NAME
    if not file.is_file():
        raise UsageError(f"{file}: no such ledger; expected the state folder of a daemon")
    try:
        with Ledger(file, read_only=read_only) as ledger:
            yield ledger, Path(named)
    except sqlite3.OperationalError as error:
        raise SarwaterError(f"{file}: {error}; run this as the daemon's user") from error


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


def _decide(decide: Callable[[Ledger, Folders, Row], None], jobs: Sequence[int], named: str | None) -> int:
    with _ledger(named, read_only=False) as (ledger, state):
        paths = ledger.folders()
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
    if source is None:
        raise UsageError(
            f"job {row.id}: {shown(row.name)} is neither in {folders.quarantine} nor in {folders.done}; send it again"
        )
    waiting = ledger.newest(row.name, *WAITING)
    if waiting is not None:
        raise UsageError(
            f"job {row.id}: {shown(row.name)} waits in the inbox as job {waiting.id}; try again "
            "once that one was claimed"
        )
    if os.path.lexists(folders.incoming / row.name):
        raise UsageError(f"{folders.incoming / row.name}: exists; wait until that one was claimed, then try again")
    ledger.requeued(row.id)
    folders.release(source, row.name)
    print(f"{shown(row.name)}: back in {folders.incoming}")


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
