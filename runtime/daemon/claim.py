"""From the inbox into custody: new scenes get a ledger row, complete ones are claimed in the order of the queue."""

from __future__ import annotations

import dataclasses
import heapq
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.daemon.context import Context
from runtime.daemon.fingerprint import Signature
from runtime.daemon.folders import Folders
from runtime.daemon.inbox import Candidate, Inbox, Kind, now
from runtime.daemon.inotify import Hints
from runtime.daemon.ledger import CLAIMED, WAITING, Ledger, State
from runtime.latency import LatencyRecord, Moment

log = logging.getLogger("sarwater.watch")


@dataclass
class Job:
    """A claimed scene."""

    id: int
    name: str
    root: Path
    """The file or folder that was claimed, where it is now."""
    priority: int
    signature: Signature
    found_by: str
    moments: dict[str, Moment]
    problem: tuple[str, str] | None = None
    """Reason and message, where it is known without opening it that it goes to quarantine."""
    attempts: int = 0
    """As the ledger counts them, with the one that runs."""
    retry_at_s: float | None = None
    """Monotonic time before which it waits for its retry."""
    started_s: float = 0.0
    """Monotonic time at which the worker got it."""

    @property
    def order(self) -> tuple[int, int]:
        """Priority first, then the sequence of arrival; never a timestamp."""
        return (-self.priority, self.id)

    def record(self) -> LatencyRecord:
        """What is known of it so far."""
        record = LatencyRecord(
            job=str(self.id),
            input=self.name,
            input_bytes=self.signature.size_bytes,
            found=self.found_by,
            attempts=self.attempts,
        )
        record.add_moments(self.moments)
        return record


class Intake:
    """The inbox as the supervisor needs it: `look` brings everything up to date, `claim` gives the next scene."""

    def __init__(self, context: Context, hints: Hints | None) -> None:
        self._context = context
        self._ledger = context.ledger
        self._hints = hints
        given_back = {row.name: row.signature for row in self._ledger.rows(State.SEEN)}
        self._inbox = Inbox(context.config, given_back)
        self._queue: list[tuple[int, int, str]] = []
        self._denied: list[tuple[int, int, str]] = []
        self._scanned_s: float | None = None

    def look(self) -> None:
        """Follow the hints, look at what may have settled, scan when it is time. Raises OSError for a broken inbox."""
        self._inbox.config = self._context.config
        whole = self._inbox.follow(self._hints.read()) if self._hints else True
        if not whole:
            self._context.metrics.overflowed()
        self._inbox.due()
        if not whole or time.monotonic() >= self.next_scan_s:
            self._scan()
        self._register()

    @property
    def next_scan_s(self) -> float:
        """Monotonic time of the next scan."""
        return 0.0 if self._scanned_s is None else self._scanned_s + self._context.config.scan_s

    @property
    def next_look_s(self) -> float:
        """Monotonic time at which `look` has something to do, without a hint."""
        return min(self.next_scan_s, self._inbox.next_look_s or self.next_scan_s)

    @property
    def next_bytes(self) -> int:
        """Size of the scene that would be claimed next."""
        candidate = self._inbox.candidates.get(self._queue[0][2]) if self._queue else None
        return candidate.signature.size_bytes if candidate else 0

    @property
    def waiting(self) -> bool:
        """Are there complete scenes?"""
        return bool(self._queue)

    def unsettled(self) -> list[str]:
        """Names of scenes that are not complete and changed since they were first seen, or lack something."""
        return sorted(c.name for c in self._open() if not self._may_settle(c))

    def may_settle(self) -> bool:
        """Are there scenes that will be complete once the settle time is over, if nobody touches them?"""
        return self._scanned_s is None or any(self._may_settle(c) for c in self._open())

    def claim(self) -> Job | None:
        """The next complete scene, taken out of the inbox; None where there is none."""
        while self._queue:
            entry = heapq.heappop(self._queue)
            candidate = self._inbox.candidates.get(entry[2])
            if candidate is None or candidate.job != entry[1] or not self._inbox.verify(candidate):
                continue
            try:
                self._context.folders.take(entry[1], candidate.name)
            except FileNotFoundError:
                continue  # the next look tells the ledger
            except PermissionError as error:
                log.warning(
                    "%s: cannot be claimed (%s); grant the daemon's user write permission on it",
                    entry[2],
                    error.strerror,
                )
                self._denied.append(entry)
            else:
                return self._claimed(candidate, entry[1])
        return None

    def _claimed(self, candidate: Candidate, job: int) -> Job:
        root = self._context.folders.secure(job, candidate.name)
        self._ledger.claimed(job)
        self._inbox.forget(candidate.name)
        assert candidate.complete is not None
        moments = {"first_seen": candidate.seen, "complete": candidate.complete, "claimed": now()}
        problem = ("product_incomplete", candidate.problem) if candidate.problem else None
        return Job(
            job, candidate.name, root, candidate.priority, candidate.signature, candidate.found_by, moments, problem
        )  # fmt: skip

    def _scan(self) -> None:
        first = self._scanned_s is None
        self._inbox.scan()
        self._scanned_s = time.monotonic()
        for entry in self._denied:
            heapq.heappush(self._queue, entry)
        self._denied.clear()
        if first:
            gone = [row.id for row in self._ledger.rows(*WAITING) if row.name not in self._inbox.candidates]
            self._inbox.gone.extend(gone)

    def _register(self) -> None:
        """Tell the ledger about new scenes, in one transaction, and queue those that are complete."""
        inbox = self._inbox
        fresh = {c.name: c for c in inbox.fresh if inbox.candidates.get(c.name) is c and not self._known(c)}
        jobs = self._ledger.seen(_sighting(candidate) for candidate in fresh.values()) if fresh else []
        for candidate, job in zip(fresh.values(), jobs, strict=True):
            if candidate.kind is Kind.IGNORED:
                log.warning("%s: ignored; expected a regular file, or a folder of a known kind", candidate.name)
            else:
                candidate.job = job
        for candidate in inbox.completed:
            if candidate.job is not None and candidate.complete is not None:
                heapq.heappush(self._queue, (-candidate.priority, candidate.job, candidate.name))
        for gone in inbox.gone:
            row = self._ledger.row(gone)
            if row is not None and row.state in WAITING:
                self._ledger.ignored(gone, "vanished", "it left the inbox before it was claimed")
        for news in (inbox.fresh, inbox.completed, inbox.gone):
            news.clear()

    def _known(self, candidate: Candidate) -> bool:
        """Does the ledger have this very scene? One that waits takes its old job number."""
        row = self._ledger.newest(candidate.name)
        if row is None:
            return False
        if row.state in WAITING and candidate.kind is not Kind.IGNORED:
            candidate.job = row.id
            if row.signature != candidate.signature:
                self._ledger.resighted(row.id, State.SETTLING, candidate.signature)
            return True
        # Only where nothing is moved does a finished scene stay in the inbox.
        stays = self._context.config.read_only_inbox or (row.state is State.IGNORED and candidate.kind is Kind.IGNORED)
        return stays and row.signature == candidate.signature

    def _open(self) -> list[Candidate]:
        return [
            c for c in self._inbox.candidates.values() if c.complete is None and c.kind is not Kind.IGNORED and c.job
        ]

    def _may_settle(self, candidate: Candidate) -> bool:
        return candidate.changes == 0 and candidate.settling


def taken_over(ledger: Ledger, folders: Folders, max_interruptions: int) -> list[Job]:
    """The scenes that were claimed when the last daemon ended, after `recover`."""
    jobs = []
    for row in ledger.rows(*CLAIMED):
        root = folders.held(row.id, row.name)
        assert root is not None, f"job {row.id} is {row.state} without an input after recovery"
        job = Job(row.id, row.name, root, row.priority, row.signature, row.found_by, {"claimed": now()})
        if row.interruptions >= max_interruptions:
            job.problem = ("interrupted", f"the daemon died {row.interruptions} times while it was worked on")
        jobs.append(job)
    return jobs


def _sighting(candidate: Candidate) -> dict[str, Any]:
    state = State.SEEN if candidate.complete else State.SETTLING
    if candidate.kind is Kind.IGNORED:
        state = State.IGNORED
    return {
        "name": candidate.name,
        "state": state,
        "priority": candidate.priority,
        **dataclasses.asdict(candidate.signature),
        "found_by": candidate.found_by,
    }
