"""New scenes get a row in the ledger; complete ones are claimed in the order of the queue."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runtime.daemon.commit import Commit
from runtime.daemon.context import Context
from runtime.daemon.fingerprint import Fingerprint, fingerprint_of
from runtime.daemon.gathering import gather, scatter
from runtime.daemon.inbox import Candidate, Inbox, now
from runtime.daemon.inotify import Hints
from runtime.daemon.item import ItemError
from runtime.daemon.kinds import Kind
from runtime.daemon.ledger import CLAIMED, WAITING, Status
from runtime.daemon.loose import is_product
from runtime.daemon.scene import ClaimedScene
from runtime.latency import LatencyRecord
from sarwater.scenes.sidecars import sidecars_of

log = logging.getLogger("sarwater.watch")

_BETWEEN_SCANS = 4
"""Times as long as the scan before."""


class Claims:
    """The inbox as the supervisor needs it: `look` brings everything up to date, `claim` gives the next scene."""

    def __init__(self, context: Context, hints: Hints | None, go_on: Callable[[], bool] = lambda: True) -> None:
        """`go_on` is asked between two items of a scan; False ends it."""
        self._context = context
        self._ledger = context.ledger
        self._hints = hints
        given_back = {row.name: row.fingerprint for row in self._ledger.rows(Status.SEEN)}
        self._inbox = Inbox(context.config, given_back, go_on=go_on)
        self._queue: list[tuple[int, int, str]] = []
        self._left: dict[tuple[int, int, str], str] = {}
        """Complete scenes that stay in the inbox until the next scan, and why."""
        self._told: dict[str, str] = {}
        """What was said about them, which is said once."""
        self._scanned_s: float | None = None
        self._scan_took_s = 0.0
        self._missed = False
        """Were events lost since the last scan?"""
        self.short_of_room = ""
        """Why the last scene for which there was no room was left in the inbox."""

    def look(self) -> None:
        """Follow the hints, look at what may have settled, scan when it is time. Raises OSError for a broken inbox."""
        self._inbox.config = self._context.config
        whole = self._inbox.follow(self._hints.read()) if self._hints else True
        if not whole:
            self._context.metrics.overflowed()
            self._missed = True
        self._inbox.due()
        if time.monotonic() >= self.next_scan_s:
            self._scan()
        self._register()

    @property
    def next_scan_s(self) -> float:
        """Monotonic time of the next scan: what is claimed and committed has most of the time, however full the inbox
        is, and however many events are lost."""
        if self._scanned_s is None:
            return 0.0
        wait_s = 0.0 if self._missed else self._context.config.scan_s
        return self._scanned_s + max(wait_s, _BETWEEN_SCANS * self._scan_took_s)

    @property
    def next_look_s(self) -> float:
        """Monotonic time at which `look` has something to do, without a hint."""
        return min(self.next_scan_s, self._inbox.next_look_s or self.next_scan_s)

    @property
    def waiting(self) -> bool:
        """Are there complete scenes?"""
        return bool(self._queue)

    def unsettled(self) -> dict[str, str]:
        """Scenes that are not complete, because they changed since they were first seen or lack members: name -> what
        it lacks."""
        return {c.name: ", ".join(c.lack) for c in self._open() if not self._may_settle(c)}

    def may_settle(self) -> bool:
        """Are there scenes that will be complete once the settle time is over, if nobody touches them?"""
        return self._scanned_s is None or any(self._may_settle(c) for c in self._open())

    def claim(self) -> ClaimedScene | None:
        """The next complete scene, taken out of the inbox; None where there is none."""
        while self._queue:
            entry = heapq.heappop(self._queue)
            candidate = self._inbox.candidates.get(entry[2])
            if candidate is None or candidate.job != entry[1] or not self._inbox.verify(candidate):
                continue
            if short := self._shortage(candidate):
                self._leave(entry, short)
                self.short_of_room = short
                continue
            try:
                if self._lies_loose(candidate):
                    if self._ledger.newest(Path(candidate.name).stem, *WAITING) is not None:
                        self._leave(entry, f"waits until the folder {Path(candidate.name).stem} was claimed")
                        continue
                    if not self._gather(candidate, entry[1]):
                        continue
                self._context.folders.take(entry[1], candidate.name)
            except FileNotFoundError:
                continue  # the next look tells the ledger
            except ItemError as error:
                why = f"cannot be claimed ({error}); grant the daemon's user write permission on it"
                self._leave((*entry[:2], candidate.name), why)
            else:
                return self._claimed(candidate, entry[1])
        return None

    def _lies_loose(self, candidate: Candidate) -> bool:
        """Does it become a folder first?"""
        several = candidate.kind is Kind.PARTS or is_product(candidate.beside)
        return several and not self._context.config.read_only_inbox

    def _gather(self, candidate: Candidate, job: int) -> bool:
        """Make a folder of what lies loose and is read together, called as the name that stands for it is without its
        suffix; False where some of it changed meanwhile, and settles again.

        Raises FileNotFoundError, ItemError; the files lie loose then.
        """
        folders, name = self._context.folders, Path(candidate.name).stem
        seen = {candidate.name: candidate.fingerprint, **candidate.beside}
        folder = gather(folders.incoming, job, name, list(seen))
        if not all(_is_unchanged(folder / file, fingerprint) for file, fingerprint in seen.items()):
            scatter(folders.incoming, name)
            return False
        found = fingerprint_of(folder)
        self._ledger.gathered(job, name, found)
        self._inbox.gathered(candidate, name, found)
        return True

    def _shortage(self, candidate: Candidate) -> str:
        """Why there is no room for its products; one that is over the limit makes none and needs none."""
        config, size_bytes = self._context.config, candidate.fingerprint.size_bytes
        if candidate.kind is Kind.SCENE and size_bytes > config.max_input_bytes:
            return ""
        return self._context.room.shortage(config.free_fraction, size_bytes)

    def _leave(self, entry: tuple[int, int, str], why: str) -> None:
        """In the inbox, until the next scan; those behind it go on."""
        self._left[entry] = why
        name = entry[2]
        if self._told.get(name) != why:
            log.warning("%s: %s", name, why)
        self._told[name] = why

    def _claimed(self, candidate: Candidate, job: int) -> ClaimedScene:
        path = self._context.folders.secure(job, candidate.name)
        self._ledger.claimed(job)
        self._inbox.forget(candidate.name)
        assert candidate.complete is not None
        return ClaimedScene(
            job=job,
            name=candidate.name,
            path=path,
            priority=candidate.priority,
            fingerprint=candidate.fingerprint.moved_to(path),
            found_by=candidate.found_by,
            moments={"first_seen": candidate.seen, "complete": candidate.complete, "claimed": now()},
            sha256=self._context.folders.sha256_beside(job, candidate.name),
            sidecars=() if self._context.config.read_only_inbox else self._inbox.sidecars_of(candidate),
        )

    def _scan(self) -> None:
        first, missed, self._missed = self._scanned_s is None, self._missed, False
        start_s = time.monotonic()
        if not self._inbox.scan():
            self._missed = missed
            return
        self._scanned_s = time.monotonic()
        self._scan_took_s = self._scanned_s - start_s
        self.short_of_room = ""
        for entry in self._left:
            heapq.heappush(self._queue, entry)
        self._left.clear()
        if self._context.config.read_only_inbox:
            self._take_requeued()
        if first:
            gone = [row.id for row in self._ledger.rows(*WAITING) if row.name not in self._inbox.candidates]
            self._inbox.gone.extend(gone)

    def _take_requeued(self) -> None:
        """In a read-only inbox a scene that is sent round again does not move: the ledger alone tells."""
        for row in self._ledger.rows(Status.SEEN):
            candidate = self._inbox.candidates.get(row.name)
            if candidate is not None and candidate.job is None:
                self._inbox.fresh.append(candidate)
                if candidate.complete is not None:
                    self._inbox.completed.append(candidate)

    def _register(self) -> None:
        """Tell the ledger about new scenes, in one transaction, and queue those that are complete."""
        inbox = self._inbox
        # First, or what has the name by now would take over the row that ends here.
        for gone in inbox.gone:
            row = self._ledger.row(gone)
            if row is not None and row.status in WAITING:
                self._ledger.ignored(gone, "vanished", "it left the inbox before it was claimed")
        fresh = {c.name: c for c in inbox.fresh if inbox.candidates.get(c.name) is c and not self._known(c)}
        if fresh:
            with self._ledger.transaction():
                for candidate in fresh.values():
                    self._enter(candidate)
        for candidate in inbox.completed:
            if candidate.job is not None and candidate.complete is not None:
                heapq.heappush(self._queue, (-candidate.priority, candidate.job, candidate.name))
        for news in (inbox.fresh, inbox.completed, inbox.gone):
            news.clear()

    def _enter(self, candidate: Candidate) -> None:
        ignored = candidate.kind is Kind.IGNORED
        status = Status.IGNORED if ignored else Status.SEEN if candidate.complete else Status.SETTLING
        job = self._ledger.seen(candidate.name, status, candidate.priority, candidate.fingerprint, candidate.found_by)
        candidate.job = None if ignored else job
        if ignored:
            quiet = (self._context.config.incoming / candidate.name).is_file()
            log.log(logging.INFO if quiet else logging.WARNING, "%s: ignored; %s", candidate.name, candidate.why)
            self._context.metrics.ended(LatencyRecord(outcome="ignored"))

    def _known(self, candidate: Candidate) -> bool:
        """Does the ledger have this very scene? One that waits takes its old job; where it is none any more, the row
        ends."""
        candidate.job = None
        row = self._ledger.newest(candidate.name)
        if row is None:
            return False
        ignored = candidate.kind is Kind.IGNORED
        if row.status in WAITING and ignored:
            self._ledger.ignored(row.id, "changed", "something that is never opened has its name now")
            return False
        if row.status in WAITING:
            candidate.job = row.id
            if returns := self._context.returns.get(row.id, 0):
                self._inbox.settle_longer(candidate, returns)
            if row.fingerprint != candidate.fingerprint:
                self._ledger.resighted(row.id, Status.SETTLING, candidate.fingerprint)
            return True
        if row.status is Status.IGNORED and row.reason is None:  # at sight
            return ignored and row.fingerprint == candidate.fingerprint
        # Only where nothing is moved does a finished scene stay in the inbox.
        return self._context.config.read_only_inbox and row.fingerprint == candidate.fingerprint

    def _open(self) -> list[Candidate]:
        return [
            c for c in self._inbox.candidates.values() if c.complete is None and c.kind is not Kind.IGNORED and c.job
        ]

    def _may_settle(self, candidate: Candidate) -> bool:
        returns = self._context.returns.get(candidate.job or 0, 0)
        return candidate.changes == 0 and candidate.settling and returns < self._context.config.max_attempts


def _is_unchanged(path: Path, seen: Fingerprint) -> bool:
    """But for the time of its move."""
    return replace(fingerprint_of(path), ctime_ns=seen.ctime_ns) == seen


def take_over(context: Context, commit: Commit) -> list[ClaimedScene]:
    """The scenes that were claimed when the last daemon ended, after `recover`, but for those that it died on too
    often: they go to quarantine."""
    scenes, folders = [], context.folders
    for row in context.ledger.rows(*CLAIMED):
        path = folders.held(row.id, row.name)
        assert path is not None, f"job {row.id} is {row.status} without an input after recovery"
        scene = ClaimedScene(
            job=row.id,
            name=row.name,
            path=path,
            priority=row.priority,
            fingerprint=row.fingerprint.moved_to(path),
            found_by=row.found_by,
            moments={"claimed": now()},
            sha256=folders.sha256_beside(row.id, row.name),
            sidecars=() if folders.read_only_inbox else tuple(sidecars_of(folders.incoming / row.name)),
        )
        if row.interruptions >= context.config.max_interruptions:
            message = f"the daemon died {row.interruptions} times while it was worked on"
            commit.broken(scene, "interrupted", message)
        else:
            scenes.append(scene)
    return scenes
