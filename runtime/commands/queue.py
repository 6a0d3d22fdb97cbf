"""`sarwater queue`: look into the ledger while the daemon runs, and decide about scenes in quarantine."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from runtime.commands.selection import filters, find, fits
from runtime.commands.station import find_state, ledger_errors, station_options
from runtime.daemon.decisions import REQUEUED, drop, folders_of, requeue
from runtime.daemon.folders import Folders
from runtime.daemon.item import shown
from runtime.daemon.ledger import CLAIMED, FILE_NAME, WAITING, Ledger, Row, Status
from runtime.daemon.lock import Lock
from runtime.daemon.rebuild import back_up, is_ledger, is_sound, rebuild
from sarwater.command import Group, invoke, option, run
from sarwater.errors import SarwaterError, UsageError, expected

_STATUSES = (*Status.__members__, "ALL")
_EXAMPLES = """
sarwater queue list
sarwater queue list QUARANTINED --reason scene_truncated --since 2d --json
sarwater queue list PUBLISHED --since 2026-11-30T06:00 --until 2026-11-30T18:00
sarwater queue show 17
sarwater queue show K5_20261130.tif
sarwater queue requeue 17 K5_20261130.tif
sarwater queue requeue --all --reason worker_died
sarwater queue drop 19
sarwater queue stats
sarwater queue backup /srv/backup/ledger.sqlite
sarwater queue restore /srv/backup/ledger.sqlite
sarwater queue rebuild --state /var/lib/sarwater/state
"""
_MORE = """
A SCENE is the number that `list` shows, or the name that it had in the inbox: then the newest of that name is meant.
A TIME is a date, a date and time in UTC, or how long ago: 2026-11-30, 2026-11-30T06:00, 90min, 12h, 3d. It is compared
with the time at which the scene ended, or else was first seen.
"""
_PENDING = (*WAITING, *CLAIMED, Status.QUARANTINED)
_COLUMNS = ("id", "status", "name", "size_bytes", "priority", "attempts", "seen_utc", "reason")
_SECONDS = len("2026-01-31T12:00:00")


def _at(function: Callable[..., int]) -> Callable[..., int]:
    """`--state`, `--config` and `--json`, before the subcommand or after it."""
    return option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")(station_options(function))


@click.group("queue", cls=Group, help="Look into the daemon's ledger, and decide about scenes.", examples=_EXAMPLES,
             more=_MORE)  # fmt: skip
@_at
@click.pass_context
def queue(ctx: click.Context, state: str | None, config: str | None, as_json: bool) -> int:
    ctx.obj = {"state": state, "config": config, "as_json": as_json}
    return 0


@contextmanager
def _ledger(named: dict[str, Any], *, read_only: bool) -> Iterator[tuple[Ledger, Path]]:
    """The ledger of the station named, on either side of the subcommand, or found. Raises UsageError where there is
    none."""
    folder = _state_folder(named)
    file = folder / FILE_NAME
    if not os.path.lexists(file):
        raise UsageError(f"{file}: no such ledger; expected the state folder of a daemon")
    with ledger_errors(file), Ledger(file, read_only=read_only) as ledger:
        yield ledger, folder


def _state_folder(named: dict[str, Any]) -> Path:
    before = click.get_current_context().obj
    if named["state"] or named["config"]:
        before = {}
    return find_state(named["state"] or before.get("state"), named["config"] or before.get("config"))


def _wants_json(as_json: bool) -> bool:
    return as_json or bool(click.get_current_context().obj["as_json"])


@queue.subcommand(
    "list",
    f"Scenes that are pending or in quarantine, or of the status named. A STATUS is one of: {', '.join(_STATUSES)}.",
)
@click.argument("statuses", nargs=-1, metavar="[STATUS]...")
@filters
@_at
def list_command(
    statuses: Sequence[str],
    reasons: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **named: Any,
) -> int:
    wanted = _statuses(statuses)
    with _ledger(named, read_only=True) as (ledger, _):
        _print_rows([row for row in ledger.rows(*wanted) if fits(row, reasons, since, until)], _wants_json(as_json))
    return 0


@queue.subcommand("stats", "How many scenes have which status.")
@_at
def stats_command(as_json: bool, **named: Any) -> int:
    with _ledger(named, read_only=True) as (ledger, _):
        _print_pairs({key.value: count for key, count in ledger.counts().items()}, _wants_json(as_json))
    return 0


@queue.subcommand("show", "All that is known of a scene.")
@click.argument("scene", metavar="SCENE")
@_at
def show_command(scene: str, as_json: bool, **named: Any) -> int:
    with _ledger(named, read_only=True) as (ledger, _):
        _print_pairs(_facts(find(ledger, scene)), _wants_json(as_json))
    return 0


@queue.subcommand("requeue", "Send finished or quarantined scenes round again, with all counts at 0.")
@click.argument("scenes", nargs=-1, metavar="[SCENE]...")
@option("--all", "all_of_them", is_flag=True, help="Every scene in quarantine, of the reason and time given.")
@filters
@_at
def requeue_command(scenes: Sequence[str], **options: Any) -> int:
    return _decide(requeue, scenes, REQUEUED, **options)


@queue.subcommand("drop", "Delete quarantined scenes for good.")
@click.argument("scenes", nargs=-1, metavar="[SCENE]...")
@option("--all", "all_of_them", is_flag=True, help="Every scene in quarantine, of the reason and time given.")
@filters
@_at
def drop_command(scenes: Sequence[str], **options: Any) -> int:
    return _decide(drop, scenes, (Status.QUARANTINED,), **options)


@queue.subcommand(
    "rebuild", "Make a damaged ledger anew, from what lies in the daemon's folders. The daemon must not run."
)
@_at
def rebuild_command(as_json: bool, **named: Any) -> int:
    return _make_anew(_state_folder(named), None, as_json)


@queue.subcommand("backup", "Copy the ledger to FILE, whole and of one moment. The daemon may run.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@_at
def backup_command(file: Path, as_json: bool, **named: Any) -> int:
    with _ledger(named, read_only=True) as (ledger, folder):
        counts = {status.value: count for status, count in ledger.counts().items() if count}
        back_up(folder / FILE_NAME, file)
    if _wants_json(as_json):
        _print_pairs(counts, as_json=True)
    else:
        print(f"{file}: {sum(counts.values())} scenes")
    return 0


@queue.subcommand(
    "restore",
    "Put the ledger back to a copy of `backup`. What came, was made or was decided since is taken from the folders, "
    "so that no scene is lost or made twice. The daemon must not run.",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@_at
def restore_command(file: Path, as_json: bool, **named: Any) -> int:
    if not is_ledger(file):
        raise UsageError(f"{file}: no copy of a ledger; expected what `sarwater queue backup` wrote")
    return _make_anew(_state_folder(named), file, as_json)


def _make_anew(folder: Path, copy: Path | None, as_json: bool) -> int:
    """From the folders, and the past from `copy`; without one, only where the ledger is damaged."""
    if not any((folder / name).exists() for name in ("lock", "work", "done", "quarantine")):
        raise UsageError(f"{folder}: no state folder of a daemon; expected one with work, done and quarantine")
    file = folder / FILE_NAME
    try:
        with Lock(folder):
            if copy is None and is_sound(file):
                print(f"{file}: sound; nothing to make anew")
                return 0
            counts, aside = rebuild(folder, copy)
    except (OSError, sqlite3.OperationalError) as error:
        raise SarwaterError(f"{file}: cannot be made anew ({error}); run this as the daemon's user") from error
    if _wants_json(as_json):
        _print_pairs({status.value: count for status, count in counts.items()}, as_json=True)
        return 0
    kept = f"; what was there is kept as {aside}" if aside else ""
    print(f"{file}: {'put back' if copy else 'made anew'}{kept}")
    _print_pairs({status.value: count for status, count in counts.items()}, as_json=False)
    print("The next start of the daemon adds the masks that are visible, and what waits in the inbox.")
    return 0


def _decide(
    decide: Callable[[Ledger, Folders, Row], str],
    scenes: Sequence[str],
    among: Sequence[Status],
    all_of_them: bool,
    reasons: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **named: Any,
) -> int:
    """About each scene named, or about all that fit. One that is refused does not keep the others."""
    if all_of_them == bool(scenes):
        raise UsageError("name scenes, or give --all, not both" if scenes else "name a SCENE, or give --all")
    if scenes and (reasons or since or until):
        raise UsageError("--reason, --since and --until go with --all")
    refused: list[SarwaterError] = []
    with _ledger(named, read_only=False) as (ledger, state):
        folders = folders_of(ledger, state)
        if all_of_them:
            rows = [row for row in ledger.rows(Status.QUARANTINED) if fits(row, reasons, since, until)]
        else:
            rows = [find(ledger, scene, among) for scene in scenes]
        for row in rows:
            try:
                print(decide(ledger, folders, row))
            except SarwaterError as error:
                refused.append(error)
    if not rows:
        print("no scene in quarantine fits")
    if len(refused) == 1:
        raise refused[0]
    for refusal in refused:
        print(refusal, file=sys.stderr)
    if refused:
        raise SarwaterError(f"{len(refused)} of {len(rows)} scenes stay as they are; see above")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Raises UsageError for a scene that is not there or of the wrong status."""
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
