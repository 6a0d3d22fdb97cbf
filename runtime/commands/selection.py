"""Which scenes of the ledger are meant: by number, by name, by reason, by time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from runtime.daemon.item import shown
from runtime.daemon.ledger import Ledger, Row, Status
from sarwater.command import option
from sarwater.errors import UsageError

_DIGITS = 16
"""Jobs have fewer."""
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}


class _Time(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # no generic before click 8.3
    """A moment in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        now = datetime.now(timezone.utc)
        try:
            if ago := _AGO.fullmatch(value):
                return now - timedelta(seconds=float(ago[1]) * _UNITS_S[ago[2]])
            found = datetime.fromisoformat(value.removesuffix("Z"))
            return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time; expected one like 2026-11-30, 2026-11-30T06:00, 90min, 12h or 3d", param, ctx
            )


def filters(function: Callable[..., int]) -> Callable[..., int]:
    """`--reason`, `--since` and `--until`."""
    for add in (
        option("--until", type=_Time(), metavar="TIME", help="Only scenes from before then."),
        option("--since", type=_Time(), metavar="TIME", help="Only scenes from then on."),
        option(
            "--reason", "reasons", multiple=True, metavar="REASON", help="Only scenes with this reason; repeatable."
        ),
    ):
        function = add(function)
    return function


def fits(row: Row, reasons: Sequence[str], since: datetime | None, until: datetime | None) -> bool:
    """Does the scene have one of `reasons`, and its time lie in [since, until)?"""
    if reasons and row.reason not in reasons:
        return False
    at = datetime.fromisoformat(row.finished_utc or row.seen_utc)
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return (since is None or at >= since) and (until is None or at < until)


def find(ledger: Ledger, scene: str, among: Sequence[Status] = ()) -> Row:
    """The scene of that number, or the newest of that name, one in `among` before others. Raises UsageError."""
    row = ledger.row(int(scene)) if scene.isascii() and scene.isdigit() and len(scene) < _DIGITS else None
    row = row or (ledger.newest(scene, *among) if among else None) or ledger.newest(scene) or _as_shown(ledger, scene)
    if row is None:
        kind = "job" if scene.isdigit() else "scene"
        raise UsageError(f"{kind} {shown(scene)}: not in the ledger; `sarwater queue list ALL` shows every one")
    return row


def _as_shown(ledger: Ledger, scene: str) -> Row | None:
    """The newest whose name is shown so, which may be escaped."""
    return next((row for row in reversed(ledger.rows()) if shown(row.name) == scene), None) if "\\" in scene else None
