"""`sarwater-queue`: look into the ledger while the daemon runs, and decide about scenes in quarantine.

sarwater-queue list [--json] [STATUS ...]
sarwater-queue show JOB
sarwater-queue requeue JOB ...
sarwater-queue drop JOB ...
sarwater-queue stats
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.daemon.folders import Folders
from runtime.daemon.ledger import CLAIMED, FILE_NAME, WAITING, Ledger, Row, Status
from sarwater.command import run_command
from sarwater.errors import SarwaterError, UsageError

_PENDING = (*WAITING, *CLAIMED, Status.QUARANTINED)
_COLUMNS = ("id", "status", "name", "size_bytes", "priority", "attempts", "seen_utc", "reason")


def main(argv: Sequence[str] | None = None) -> int:
    """Raises UsageError for a job that is not there or in the wrong status."""
    arguments = _parser().parse_args(argv)
    named: str | None = arguments.state or os.environ.get("SARWATER_STATE")
    if not named:
        raise UsageError("no state folder named; give --state DIR, or set SARWATER_STATE")
    state = Path(named)
    if not (state / FILE_NAME).is_file():
        raise UsageError(f"{state / FILE_NAME}: no such ledger; expected the state folder of a daemon")
    try:
        with Ledger(state / FILE_NAME, read_only=arguments.command in ("list", "show", "stats")) as ledger:
            return _run(arguments, ledger, state)
    except sqlite3.OperationalError as error:
        raise SarwaterError(f"{state / FILE_NAME}: {error}; run this as the daemon's user") from error


def cli() -> int:
    return run_command(main)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sarwater-queue", description="Look into the daemon's ledger, and mend it.")
    parser.add_argument("--state", metavar="DIR", help="the daemon's state folder (default: $SARWATER_STATE)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="scenes that are pending or in quarantine, or of the status named")
    names = [status.value for status in Status]
    listing.add_argument(
        "statuses", nargs="*", metavar="STATUS", type=str.upper, help=f"out of {', '.join(names)}, ALL"
    )
    commands.add_parser("stats", help="how many scenes have which status")
    for name, text in {
        "show": "all that is known of a scene",
        "requeue": "send finished or quarantined scenes round again, with all counts at 0",
        "drop": "delete quarantined scenes for good",
    }.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("jobs", nargs=1 if name == "show" else "+", type=int, metavar="JOB")
    return parser


def _run(arguments: argparse.Namespace, ledger: Ledger, state: Path) -> int:
    match arguments.command:
        case "list":
            _print_rows(ledger.rows(*_statuses(arguments.statuses)), arguments.json)
        case "stats":
            counts = {status.value: count for status, count in ledger.counts().items()}
            _print_pairs(counts, arguments.json)
        case "show":
            _print_pairs(_facts(_row(ledger, arguments.jobs[0])), arguments.json)
        case "requeue" | "drop" as command:
            paths = ledger.folders()
            folders = Folders(paths["incoming"], paths["outgoing"], state)
            for job in arguments.jobs:
                (_requeue if command == "requeue" else _drop)(ledger, folders, _row(ledger, job))
    return 0


def _statuses(names: Sequence[str]) -> tuple[Status, ...]:
    if not names:
        return _PENDING
    if "ALL" in names:
        return tuple(Status)
    if unknown := [name for name in names if name not in Status.__members__]:
        raise UsageError(f"{unknown[0]}: no such status; expected some of {', '.join(Status.__members__)}, ALL")
    return tuple(Status[name] for name in names)


def _row(ledger: Ledger, job: int) -> Row:
    row = ledger.row(job)
    if row is None:
        raise UsageError(f"job {job}: not in the ledger; `sarwater-queue list all` shows every job")
    return row


def _requeue(ledger: Ledger, folders: Folders, row: Row) -> None:
    """First the ledger, then the rename that the daemon notices; a crash between the two is put right by `recover`.

    What else lies in quarantine is left to the daemon's claim: it may have quarantined the scene again already.
    """
    if row.status not in (Status.QUARANTINED, Status.PUBLISHED, Status.DUPLICATE):
        raise UsageError(
            f"job {row.id} ({row.name}) is {row.status.value}; only finished or quarantined scenes can be requeued"
        )
    source = folders.quarantined(row.id, row.name) or folders.done_copy(row.id, row.name)
    if source is None:
        raise UsageError(
            f"job {row.id}: {row.name} is neither in {folders.quarantine} nor in {folders.done}; send it again"
        )
    if os.path.lexists(folders.incoming / row.name):
        raise UsageError(f"{folders.incoming / row.name}: exists; wait until that one was claimed, then try again")
    ledger.requeued(row.id)
    folders.release(source, row.name)
    print(f"{row.name}: back in {folders.incoming}")


def _drop(ledger: Ledger, folders: Folders, row: Row) -> None:
    if row.status is not Status.QUARANTINED:
        raise UsageError(f"job {row.id} ({row.name}) is {row.status.value}; only quarantined scenes can be dropped")
    ledger.ignored(row.id, "dropped", f"dropped by an operator; it was quarantined as {row.reason}: {row.message}")
    shutil.rmtree(folders.quarantine_folder(row.id), ignore_errors=True)
    print(f"{row.name}: deleted from quarantine")


def _facts(row: Row) -> dict[str, Any]:
    facts = {key: value for key, value in dataclasses.asdict(row).items() if value is not None}
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
        facts = _facts(row)
        table.add_row(*(str(facts.get(column, "")) for column in _COLUMNS))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 1000  # a pipe has no width: grep and awk want whole rows
    console.print(table)


def _print_pairs(pairs: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(pairs, indent=2, ensure_ascii=False))
    else:
        for key, value in pairs.items():
            print(f"{key:<16} {', '.join(value) if isinstance(value, list) else value}")


if __name__ == "__main__":
    sys.exit(cli())
