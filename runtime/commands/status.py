"""`sarwater status`: what the daemon does now, what waits, what came of the last scenes; while it runs or not."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.commands.station import find_state, ledger_errors, station_options
from runtime.daemon.ledger import FILE_NAME
from runtime.daemon.status import seconds, size
from sarwater.command import command, invoke, option, run
from sarwater.errors import SarwaterError

if TYPE_CHECKING:
    from runtime.daemon.status import StationView

_EXAMPLES = """
sarwater status
sarwater status --watch
sarwater status --json | jq .queue
sarwater status --check --state /var/lib/sarwater/state
"""
_MORE = """
--check prints one line, as Nagios and its relatives want it, and ends with 0 (all is well), 1 (warning: scenes in
quarantine, or one that waits too long), 2 (critical: no daemon, no sign of life, paused, or one that waits far too
long) or 3 (unknown: there is no ledger that can be read).
"""
_EVERY_S = 1.0
OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@command("status", "What the daemon does now, what waits, and what came of the last scenes.", examples=_EXAMPLES,
         more=_MORE)  # fmt: skip
@station_options
@option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line each time.")
@option("--check", is_flag=True, help="Print one line and end with 0, 1, 2 or 3, for Nagios-like tools.")
@option("--warning-s", type=click.FloatRange(min=0), default=900.0, metavar="SECONDS",
        help="With --check: age of the oldest scene that is not finished, for a warning. [default: 900]")  # fmt: skip
@option("--critical-s", type=click.FloatRange(min=0), default=3600.0, metavar="SECONDS",
        help="With --check: the same, for a critical state. [default: 3600]")  # fmt: skip
def status(
    state: str | None,
    config: str | None,
    watch: bool,
    as_json: bool,
    check: bool,
    warning_s: float,
    critical_s: float,
) -> int:
    if check:
        return _check(state, config, warning_s, critical_s)
    station = _open(find_state(state, config))
    if not watch:
        found = _look(station)
        print(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(lines_of(found)))
        return 0
    try:
        _watch(station, as_json)
    except KeyboardInterrupt:
        return 0
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Raises UsageError where there is no ledger, SarwaterError for one that cannot be read."""
    return invoke(status, argv)


def cli() -> int:
    return run(status)


def _open(state: Path) -> StationView:
    from runtime.daemon.status import StationView

    with ledger_errors(state / FILE_NAME):
        return StationView(state)


def _look(station: StationView) -> dict[str, Any]:
    with ledger_errors(station.state / FILE_NAME):
        return station.status()


def _watch(station: StationView, as_json: bool) -> None:
    """For ever: on a terminal in place, else one after the other."""
    if as_json or not sys.stdout.isatty():
        while True:
            found = _look(station)
            print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join([*lines_of(found), ""]), flush=True)
            time.sleep(_EVERY_S)
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=True) as live:
        while True:
            live.update(Text("\n".join(lines_of(_look(station))), no_wrap=True, overflow="ellipsis"), refresh=True)
            time.sleep(_EVERY_S)


def lines_of(found: dict[str, Any]) -> Iterator[str]:
    """For people; names are shown escaped already."""
    since = f", since {found['since_utc']}" if found["since_utc"] and found["state"] not in ("down", "silent") else ""
    yield f"{found['state']}{': ' + found['why'] if found['why'] else ''}{since}"
    if model := found["model"]:
        yield f"model       {model['name']} {model['precision']} {model['sha256'][:12]} on {model['device']}"
        if left := model.get("first_scenes_left"):
            yield f"            new: activated {model['activated_utc']}, {left} of its first scenes to come"
        if given_up := model.get("rolled_back"):
            yield f"rolled back {given_up}"
    if scene := found["scene"]:
        yield f"at work     {_scene(scene)}"
    if found["note"]:
        yield f"held up     {found['note']}"
    queue, day = found["queue"], found["day"]
    oldest = f", the oldest since {seconds(queue['oldest_s'])}" if queue["oldest_s"] is not None else ""
    yield f"queue       {queue['waiting']} waiting, {queue['claimed']} claimed{oldest}"
    yield from (f"  {row['job']:>6}  {row['status']:<11} {seconds(row['age_s']):>10}  {row['name']}"
                for row in queue["scenes"])  # fmt: skip
    times = f", p50 {seconds(day['p50_s'])}, p95 {seconds(day['p95_s'])}" if day["published"] else ""
    yield f"24 hours    {day['published']} published{times}"
    for disk in found["disk"]:
        free = disk.get("error") or f"{size(disk['free_bytes'])} of {size(disk['size_bytes'])} free"
        yield f"disk        {disk['folder']:<9} {free}  {disk['path']}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in found["quarantine"]["reasons"].items())
    yield f"quarantine  {found['quarantine']['count']}{': ' + reasons if reasons else ''}"
    yield from (f"  {row['job']:>6}  {row['name']}: {row['reason']}: {row['message']}"
                for row in found["quarantine"]["scenes"])  # fmt: skip
    for name, told in found["outbox"].items():
        yield f"to tell     {name}: {told['waiting']}{': ' + told['error'] if told['error'] else ''}"
    if found["last"]:
        yield "last"
        yield from map(_result, found["last"])


def _scene(scene: dict[str, Any]) -> str:
    share = f" {scene['share']:.0%}" if scene["share"] is not None else ""
    left = f", about {seconds(scene['eta_s'])} left" if scene["eta_s"] is not None else ""
    again = f", attempt {scene['attempt']}" if scene["attempt"] > 1 else ""
    return f"{scene['name']}: {scene['stage']}{share}{left} ({seconds(scene['elapsed_s'])} so far{again})"


def _result(row: dict[str, Any]) -> str:
    took = f" in {seconds(row['total_s'])}" if row["total_s"] is not None else ""
    water = f", {row['water_km2']:,.3f} km2 of water" if row["water_km2"] is not None else ""
    return f"  {row['job']:>6}  {row['status']:<11} {seconds(row['age_s']):>10} ago  {row['name']}{took}{water}"


def _check(state: str | None, config: str | None, warning_s: float, critical_s: float) -> int:
    try:
        found = _look(_open(find_state(state, config)))
    except SarwaterError as error:
        print(f"SARWATER UNKNOWN - {error}")
        return UNKNOWN
    level, why = judge(found, warning_s, critical_s)
    queue, day = found["queue"], found["day"]
    figures = {
        "waiting": queue["waiting"],
        "oldest": f"{queue['oldest_s'] or 0:g}s;{warning_s:g};{critical_s:g}",
        "quarantine": found["quarantine"]["count"],
        "published": day["published"],
        **({"p95": f"{day['p95_s']:g}s"} if day["published"] else {}),
    }
    text = "; ".join(why).replace("|", "/")  # which would begin the figures
    print(f"SARWATER {_WORDS[level]} - {text} | {' '.join(f'{key}={value}' for key, value in figures.items())}")
    return level


def judge(found: dict[str, Any], warning_s: float, critical_s: float) -> tuple[int, list[str]]:
    """OK, WARNING or CRITICAL, and why, the worst first."""
    why: list[tuple[int, str]] = []
    if found["state"] in ("down", "silent", "paused"):
        why.append((CRITICAL, f"{found['state']}: {found['why']}"))
    oldest_s = found["queue"]["oldest_s"]
    if oldest_s is not None and oldest_s >= min(warning_s, critical_s):
        level = CRITICAL if oldest_s >= critical_s else WARNING
        why.append((level, f"a scene waits since {seconds(oldest_s)}"))
    if count := found["quarantine"]["count"]:
        why.append((WARNING, f"{count} in quarantine ({', '.join(found['quarantine']['reasons'])})"))
    if found["note"]:
        why.append((WARNING, found["note"]))
    if given_up := (found.get("model") or {}).get("rolled_back"):
        why.append((WARNING, f"rolled back: {given_up}"))
    for name, told in found["outbox"].items():
        if told["error"]:
            why.append((WARNING, f"{name} was not told of {told['waiting']} events ({told['error']})"))
    if not why:
        return OK, [found["state"]]
    why.sort(key=lambda one: -one[0])
    return why[0][0], [text for _, text in why]


if __name__ == "__main__":
    sys.exit(cli())
