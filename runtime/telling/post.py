"""Delivery beside the daemon's work: a thread for each channel; only the supervisor touches the ledger.

A slow or dead receiver keeps its own thread waiting, and nothing else: no scene, no other channel, no stop.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType

from runtime.daemon.ledger import Ledger
from runtime.daemon.metrics import Metrics
from runtime.daemon.outbox import Message
from runtime.telling.channel import Channel

log = logging.getLogger("sarwater.watch")

_LOOK_S = 30.0
"""Time between two looks for what may be due, and for what is too old."""
_REST_S = 60.0
"""Longest time that a channel is left alone after failures in a row, whichever message is next."""
_KEEP_OTHERS_S = 7 * 86400.0
"""Age at which messages to a channel that is configured no longer are given up."""


@dataclass
class _Line:
    """One channel: its thread, and what is under way."""

    channel: Channel
    inbox: queue.SimpleQueue[Message | None]
    busy: Message | None = None
    again_s: dict[int, float] = field(default_factory=dict)
    """Monotonic time before which a message that failed is not tried, by its id."""
    look_s: float = 0.0
    seen: int = -1
    """`Outbox.added` when it was last looked for messages: since then there was none."""
    failures: int = 0
    """In a row."""
    rest_s: float = 0.0
    """Monotonic time until which it is left alone."""


class Post:
    """A context manager. `turn` does what there is to do and never waits; `fileno` wakes the supervisor."""

    def __init__(self, ledger: Ledger, metrics: Metrics, channels: Sequence[Channel], outgoing: Path) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._outgoing = outgoing
        self._results: queue.SimpleQueue[tuple[_Line, Message, str]] = queue.SimpleQueue()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._lines: list[_Line] = []
        self._old_s = 0.0
        self.channels: Sequence[Channel] = ()
        self.adopt(channels)

    def fileno(self) -> int:
        return self._ours.fileno()

    def adopt(self, channels: Sequence[Channel]) -> None:
        """New settings: what is under way is delivered as it was begun."""
        if channels == self.channels:
            return
        self._let_go()
        self.channels = channels
        self._ledger.outbox.wants = {
            event: [channel.name for channel in channels if event in channel.events]
            for event in sorted({event for channel in channels for event in channel.events})
        }
        self._lines = [self._line(channel) for channel in channels]

    def turn(self) -> None:
        """Note what was delivered, and hand on what is due."""
        self._hear()
        self._give_up()
        now_s = time.monotonic()
        for line in self._lines:
            fresh = line.seen != self._ledger.outbox.added
            if line.busy is None and now_s >= line.rest_s and (fresh or now_s >= line.look_s):
                self._hand_on(line, now_s)

    @property
    def due_s(self) -> float | None:
        """Monotonic time at which `turn` has something to do, without a wake."""
        return min((max(line.look_s, line.rest_s) for line in self._lines if line.busy is None), default=None)

    def flush(self, patience_s: float) -> None:
        """Try whatever was not tried yet, for so long."""
        until_s = time.monotonic() + patience_s
        while self._lines and time.monotonic() < until_s:
            self.turn()
            if not any(line.busy for line in self._lines):
                return
            time.sleep(0.01)

    def _line(self, channel: Channel) -> _Line:
        line = _Line(channel, queue.SimpleQueue())
        threading.Thread(target=self._deliver, args=(line,), name=f"tell-{channel.name}", daemon=True).start()
        return line

    def _deliver(self, line: _Line) -> None:
        """In the thread of a channel."""
        from runtime.telling.notification import notification
        from runtime.telling.send import NotDelivered, send

        while (message := line.inbox.get()) is not None:
            try:
                send(line.channel, message.event, notification(message.body, self._outgoing, line.channel.links))
                error = ""
            except (NotDelivered, OSError) as failure:
                error = str(failure)
            except Exception as failure:
                log.exception("%s: a message cannot be sent", line.channel.name)
                error = type(failure).__name__
            self._results.put((line, message, error))
            with contextlib.suppress(OSError):  # it is full of wakes, or the daemon is gone
                self._theirs.send(b".")

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            self._ours.recv(4096)
        while True:
            try:
                line, message, error = self._results.get_nowait()
            except queue.Empty:
                return
            line.busy = None
            self._metrics.told(line.channel.name, "failed" if error else "delivered")
            if not error:
                self._ledger.outbox.delivered(message.id)
                line.again_s.pop(message.id, None)
                line.look_s = 0.0
                if line.failures:
                    log.info("%s: takes messages again", line.channel.name)
                line.failures, line.rest_s = 0, 0.0
                continue
            self._ledger.outbox.failed(message.id, error)
            now_s = time.monotonic()
            line.again_s[message.id] = now_s + _wait_s(line.channel, message.attempts)
            line.look_s = line.rest_s = now_s + min(_REST_S, _wait_s(line.channel, line.failures))
            if not line.failures:
                log.warning("%s: not told (%s); it is tried again, scenes do not wait", line.channel.name, error)
            line.failures += 1

    def _hand_on(self, line: _Line, now_s: float) -> None:
        added = self._ledger.outbox.added
        waits = {number for number, at_s in line.again_s.items() if at_s > now_s}
        message = self._ledger.outbox.next(line.channel.name, waits)
        if message is None:
            line.seen = added
            line.look_s = min((at_s for at_s in line.again_s.values() if at_s > now_s), default=now_s + _LOOK_S)
            return
        line.busy = message
        line.inbox.put(message)

    def _give_up(self) -> None:
        now_s = time.monotonic()
        if now_s < self._old_s:
            return
        self._old_s = now_s + _LOOK_S
        now, outbox = datetime.now(timezone.utc), self._ledger.outbox
        kept_s = {line.channel.name: line.channel.keep_s for line in self._lines}
        waiting = outbox.waiting()
        for name in waiting:
            keep_s = kept_s.get(name, _KEEP_OTHERS_S)
            before = (now - timedelta(seconds=keep_s)).isoformat(timespec="milliseconds")
            if count := outbox.give_up(name, before):
                log.error("%s: %d messages older than %g s were not delivered and are given up", name, count, keep_s)
        self._metrics.outbox(dict.fromkeys(kept_s, 0) | {name: count for name, (count, _) in waiting.items()})

    def _let_go(self) -> None:
        for line in self._lines:
            line.inbox.put(None)

    def __enter__(self) -> Post:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Threads that are in the middle of a message end with the process."""
        self._let_go()
        self._ours.close()
        self._theirs.close()


def _wait_s(channel: Channel, failures: int) -> float:
    """After so many failures before this one: doubling, with jitter."""
    return min(channel.retry_cap_s, channel.retry_first_s * 2.0 ** min(failures, 30)) * random.uniform(0.5, 1)
