"""The ledger's outbox: what others are still to be told, written in the same transaction as that of which it tells.

A message leaves it when it was delivered, so that each is told at least once, whatever dies: told twice, it has the
same `id`.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = """
CREATE TABLE outbox (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    channel         TEXT    NOT NULL,
    event           TEXT    NOT NULL,
    body            TEXT    NOT NULL,
    created_utc     TEXT    NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    error           TEXT
) STRICT;
CREATE INDEX by_channel ON outbox (channel, id)"""
EMPTY_VIEW = "CREATE TEMP VIEW outbox AS SELECT 0 AS id, '' AS channel, 0 AS attempts, '' AS error WHERE 0"
"""For those who look at a ledger from before there was one."""


@dataclass(frozen=True)
class Message:
    id: int
    channel: str
    event: str
    body: Mapping[str, Any]
    attempts: int
    """That failed."""


class Outbox:
    """Belongs to a `Ledger`, whose statements it runs. `wants`: for each event, the channels that are told of it."""

    def __init__(self, execute: Callable[[str, Sequence[Any]], sqlite3.Cursor]) -> None:
        self._execute = execute
        self.wants: Mapping[str, Sequence[str]] = {}
        self.added = 0
        """Messages since the start; whoever sends looks again when it grows."""

    def add(self, event: str, utc: str, **facts: Any) -> None:
        """One message for each channel that wants it. Text must be fit for JSON."""
        for channel in self.wants.get(event, ()):
            body = json.dumps({"id": str(uuid.uuid4()), "event": event, "time_utc": utc, **facts})
            sql = "INSERT INTO outbox (channel, event, body, created_utc) VALUES (?, ?, ?, ?)"
            self._execute(sql, (channel, event, body, utc))
            self.added += 1

    def next(self, channel: str, except_for: Iterable[int]) -> Message | None:
        """The oldest of a channel that is none of those."""
        sql = (
            "SELECT id, channel, event, body, attempts FROM outbox WHERE channel = ? "
            "AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 1"
        )
        record = self._execute(sql, (channel, json.dumps(list(except_for)))).fetchone()
        if record is None:
            return None
        number, name, event, body, attempts = record
        return Message(number, name, event, json.loads(body), attempts)

    def delivered(self, message: int) -> None:
        self._execute("DELETE FROM outbox WHERE id = ?", (message,))

    def failed(self, message: int, error: str) -> None:
        self._execute("UPDATE outbox SET attempts = attempts + 1, error = ? WHERE id = ?", (error, message))

    def give_up(self, channel: str, before_utc: str) -> int:
        """Drop what is older; returns how many messages those were."""
        sql = "DELETE FROM outbox WHERE channel = ? AND created_utc < ?"
        return self._execute(sql, (channel, before_utc)).rowcount

    def waiting(self) -> dict[str, tuple[int, str | None]]:
        """How many messages wait for which channel, and one reason why attempts failed."""
        sql = "SELECT channel, count(*), max(error) FROM outbox GROUP BY channel ORDER BY channel"
        return {channel: (count, error) for channel, count, error in self._execute(sql, ())}
