"""What lies in the inbox, and which of it is complete.

Complete means, in order of trust:

1. it arrived by rename, from outside of the inbox or from an ignored name (`.x`, `x.part`, ...);
2. a marker `NAME.done`, or a checksum `NAME.sha256` whose size (if it says one) matches, lies beside it;
3. inode, size and modification time stayed the same over two looks and the settle time on the monotonic clock.

The third can be fooled by a writer that pauses, or that preallocates the file: only 1 and 2 exclude that.

Nothing that is wrong with one name concerns another: what cannot be looked at is ignored, with its reason, and every
scan looks at it again.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase

from runtime.daemon.companions import CHECKSUM, COMPANIONS, MARKER, Checksum, is_companion, scene_of
from runtime.daemon.config import Config
from runtime.daemon.fingerprint import Fingerprint, fingerprint_of, fingerprint_of_status
from runtime.daemon.inotify import Hint
from runtime.daemon.item import ItemError, looking_at
from runtime.daemon.kinds import Kind, accepts, examine, is_uploading
from runtime.daemon.loose import LooseFiles, is_uploaded, lacking, parts_of
from runtime.latency import Moment
from sarwater.regular import open_regular
from sarwater.scenes.readers import find_reader

_LONG_S = 0.1
"""Of processor time."""
_MOST_DOUBLINGS = 20
_REST = 20
"""Times as long as the look before it."""
_TURN_S = 0.5
"""After which the caller has its turn, though there is more to look at."""


@dataclass
class Candidate:
    """One name in the inbox. `job` is the ledger's number once it is known there."""

    name: str
    kind: Kind
    fingerprint: Fingerprint
    found_by: str
    """`event` or `scan`."""
    seen: Moment
    complete: Moment | None = None
    unchanged_since_s: float = 0.0
    looks: int = 1
    """In a row that found it the same."""
    changes: int = 0
    returns: int = 0
    """Times that it was claimed and came back, because it changed while it was worked on."""
    settling: bool = False
    """All of it is there; only time has to show that it stays as it is."""
    lack: tuple[str, ...] = ()
    """What its reader misses, or its name says that belongs to it."""
    beside: dict[str, Fingerprint] = field(default_factory=dict)
    """Loose files that are read with it, by name."""
    why: str = ""
    """It is ignored."""
    job: int | None = None
    priority: int = 0


@dataclass
class Inbox:
    """Candidates by name, brought up to date by `scan`, `follow` and `due`.

    What is new since is in three lists that the caller empties: `fresh` (not what it was before), `completed`, and
    `gone` (job numbers of scenes that somebody else took away).
    """

    config: Config
    trusted: dict[str, Fingerprint] = field(default_factory=dict)
    """Names that were complete when they were last here (scenes given back by a stopping daemon)."""
    candidates: dict[str, Candidate] = field(default_factory=dict)
    fresh: list[Candidate] = field(default_factory=list)
    completed: list[Candidate] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    go_on: Callable[[], bool] = lambda: True
    """Asked between two items of a scan; False ends it."""
    _hinted: dict[str, bool] = field(default_factory=dict)
    """Names that events point to and that were not looked at yet; did it arrive by a rename?"""
    _due: list[tuple[float, str]] = field(default_factory=list)
    _rests_until_s: dict[str, float] = field(default_factory=dict)
    """Monotonic time before which no scan looks at what takes long, by name."""
    _loose: LooseFiles = field(default_factory=LooseFiles)

    def scan(self) -> bool:
        """Look at everything; False where `go_on` ended it. Raises OSError where the inbox cannot be read."""
        with os.scandir(self.config.incoming) as entries:
            names = {entry.name for entry in entries}
        for name in self.candidates.keys() - names:
            self._lose(name)
        self._loose = LooseFiles(name for name in names if not self._ignored(name))
        for name in sorted(names):
            if not self.go_on():
                return False
            self._look_again(name)
        return True

    def follow(self, hints: Iterable[Hint]) -> bool:
        """Look where the hints point, once at each name; False where events were lost and only a scan can tell.

        For a while: names that never come to rest shall not keep the caller from what it has to do. The next call goes
        on with the others.
        """
        whole = True
        for hint in hints:
            if hint.name is None:
                whole = False
            else:
                old = hint.renamed_from
                arrived = old is not None and (not old or self._unfinished(old))
                self._hinted[hint.name] = arrived or self._hinted.get(hint.name, False)
        deadline_s = time.monotonic() + _TURN_S
        while self._hinted and time.monotonic() < deadline_s:
            name = next(iter(self._hinted))
            self._look(name, "event", self._hinted.pop(name))
            if name.endswith(COMPANIONS):
                self._look(scene_of(name), "event", arrived=False)
        return whole

    def due(self) -> None:
        """Look again at what may have settled by now; for a while, as `follow`."""
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s and time.monotonic() <= now_s + _TURN_S:
            _, name = heapq.heappop(self._due)
            if name in self.candidates and self.candidates[name].complete is None:
                self._look_again(name)

    @property
    def next_look_s(self) -> float | None:
        """Monotonic time of the next look that is due."""
        if self._hinted:
            return time.monotonic()
        return self._due[0][0] if self._due else None

    def forget(self, name: str) -> None:
        """The caller took it, or knows that it is finished."""
        self.candidates.pop(name, None)

    def gathered(self, candidate: Candidate, name: str, fingerprint: Fingerprint) -> None:
        """The caller made the folder `name` of a scene and what is beside it."""
        self.forget(candidate.name)
        for file in (candidate.name, *candidate.beside):
            self._loose.discard(file)
        candidate.name, candidate.kind, candidate.fingerprint, candidate.beside = name, Kind.FOLDER, fingerprint, {}
        self.candidates[name] = candidate

    def settle_longer(self, candidate: Candidate, returns: int) -> None:
        """It came back: whoever writes to it pauses for longer than it had to settle."""
        candidate.returns, candidate.complete, candidate.looks = returns, None, 1
        candidate.unchanged_since_s = time.monotonic()
        heapq.heappush(self._due, (candidate.unchanged_since_s + self._settle_s(candidate), candidate.name))

    def _settle_s(self, candidate: Candidate) -> float:
        longest_s = max(self.config.settle_s, self.config.retry_cap_s)
        return min(self.config.settle_s * 2.0 ** min(candidate.returns, _MOST_DOUBLINGS), longest_s)

    def sidecars_of(self, candidate: Candidate) -> tuple[str, ...]:
        """Files that would say where it lies, and are not read."""
        return self._loose.sidecars_of(candidate.name)

    def verify(self, candidate: Candidate) -> bool:
        """Is it still what it was when it was found complete? Looks again if not."""
        self._look(candidate.name, candidate.found_by, arrived=False)
        return self.candidates.get(candidate.name) is candidate and candidate.complete is not None

    def _lose(self, name: str) -> None:
        self._rests_until_s.pop(name, None)
        candidate = self.candidates.pop(name, None)
        if candidate is not None and candidate.job is not None:
            self.gone.append(candidate.job)

    def _ignored(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.config.ignore)

    def _unfinished(self, name: str) -> bool:
        """Is it a name under which an upload is written, to be renamed once it is whole?"""
        return self._ignored(name) or is_uploading(name)

    def _look_again(self, name: str) -> None:
        """A look for which no event asks: one that takes long is followed by a rest, or a few folders with large
        headers would take all of the time."""
        now_s, before_s = time.monotonic(), time.thread_time()
        if (rests_until_s := self._rests_until_s.get(name, 0.0)) > now_s:
            if name in self.candidates and self.candidates[name].complete is None:
                heapq.heappush(self._due, (rests_until_s, name))
            return
        self._rests_until_s.pop(name, None)
        self._look(name, "scan", arrived=False)
        took_s = time.thread_time() - before_s
        if took_s > _LONG_S and name in self.candidates:
            self._rests_until_s[name] = time.monotonic() + _REST * took_s

    def _look(self, name: str, by: str, arrived: bool) -> None:
        """The one place that looks at a name: whatever is wrong with it sets this name aside, and no other."""
        try:
            with looking_at(name):
                self._look_at(name, by, arrived)
        except FileNotFoundError:
            self._loose.discard(name)
            self._lose(name)
        except ItemError as error:
            self._note(name, by, Kind.IGNORED, self._at_least(name), f"it cannot be looked at ({error})")

    def _look_at(self, name: str, by: str, arrived: bool) -> None:
        if self._ignored(name) or self._is_companion(name):
            self._lose(name)
            return
        path = self.config.incoming / name
        fingerprint_of(path)  # before a reader looks into it: raises for a folder too large to be a product
        self._loose.add(name)
        if image := self._loose.image_of(name) or self._head_of(name):
            self._lose(name)
            if by == "event":  # a scan looks at the image itself
                self._look(image, by, arrived=False)
            return
        candidate = self._note(name, by, *examine(path, self.config.accept))
        self._compare_beside(candidate)
        if candidate.complete is None and candidate.kind is not Kind.IGNORED:
            self._judge(candidate, arrived)

    def _is_companion(self, name: str) -> bool:
        """Is it the marker or the checksum of something that is here?"""
        scene = self.config.incoming / scene_of(name)
        return name.endswith(COMPANIONS) and os.path.lexists(scene) and is_companion(self.config.incoming / name)

    def _head_of(self, name: str) -> str | None:
        """What is here and stands for the part of a product `name`."""
        parts = parts_of(self.config.incoming / name)
        if (
            parts is None
            or parts.head == name
            or self._ignored(parts.head)
            or not accepts(parts.head, self.config.accept)
        ):
            return None
        return parts.head if os.path.lexists(self.config.incoming / parts.head) else None

    def _note(self, name: str, by: str, kind: Kind, fingerprint: Fingerprint, why: str) -> Candidate:
        candidate = self.candidates.get(name)
        if candidate is None:
            candidate = Candidate(name, kind, fingerprint, by, now(), priority=self._priority(name))
            candidate.unchanged_since_s = candidate.seen.monotonic_s
            self.candidates[name] = candidate
            self.fresh.append(candidate)
        else:
            self._compare(candidate, kind, fingerprint)
        candidate.why = why
        return candidate

    def _compare(self, candidate: Candidate, kind: Kind, fingerprint: Fingerprint) -> None:
        candidate.looks += 1
        if fingerprint == candidate.fingerprint and kind is candidate.kind:
            return
        if fingerprint.inode != candidate.fingerprint.inode or kind is not candidate.kind:
            candidate.seen = now()
            self.fresh.append(candidate)
        candidate.changes = candidate.changes + 1 if kind is candidate.kind else 0
        candidate.kind, candidate.fingerprint = kind, fingerprint
        candidate.unchanged_since_s = time.monotonic()
        candidate.looks = 1
        candidate.complete = None

    def _compare_beside(self, candidate: Candidate) -> None:
        """What belongs to a loose image settles with it."""
        beside = {}
        kinds = (stat.S_IFREG, stat.S_IFDIR) if candidate.kind is Kind.PARTS else (stat.S_IFREG,)
        for name in self._belonging_to(candidate):
            path = self.config.incoming / name
            with contextlib.suppress(FileNotFoundError):
                if stat.S_IFMT(path.lstat().st_mode) in kinds:
                    beside[name] = fingerprint_of(path)
        if beside != candidate.beside:
            candidate.beside = beside
            candidate.unchanged_since_s = time.monotonic()
            candidate.looks = 1
            candidate.complete = None

    def _belonging_to(self, candidate: Candidate) -> Sequence[str]:
        if candidate.kind is Kind.SCENE:
            return self._loose.companions(candidate.name)
        parts = parts_of(self.config.incoming / candidate.name) if candidate.kind is Kind.PARTS else None
        return parts.others if parts else ()

    def _judge(self, candidate: Candidate, arrived: bool) -> None:
        """Mark the candidate complete, or set the time of the next look."""
        if any(map(self._is_written_to, (candidate.name, *candidate.beside))):
            candidate.settling = False
            heapq.heappush(self._due, (time.monotonic() + self.config.scan_s, candidate.name))
            return
        if candidate.kind in (Kind.FOLDER, Kind.PARTS) and not self._members_there(candidate):
            return
        if candidate.kind is Kind.SCENE and self._waits_for_companions(candidate):
            return
        # A rename says nothing of what lies beside it, and we ourselves rename what comes back.
        arrived = arrived and not candidate.beside and not candidate.returns
        settled_s = candidate.unchanged_since_s + self._settle_s(candidate)
        settled = candidate.looks > 1 and time.monotonic() >= settled_s
        marked = self._marked(candidate)
        too_large = candidate.kind is Kind.SCENE and candidate.fingerprint.size_bytes > self.config.max_input_bytes
        if (
            too_large  # and may grow for ever: no further byte makes a scene of it
            or (marked and (settled or not candidate.returns))
            or candidate.lack
            or self.trusted.get(candidate.name) == candidate.fingerprint
            or (not self.config.require_marker and (arrived or settled))
        ):
            candidate.complete = now()
            self.completed.append(candidate)
        elif marked or not self.config.require_marker:
            candidate.settling = True
            heapq.heappush(self._due, (settled_s, candidate.name))

    def _waits_for_companions(self, candidate: Candidate) -> bool:
        """Does its name say that more belongs to it, and may that still come? A while after the last file it may not,
        unless one is being uploaded."""
        candidate.lack = lacking(candidate.name, candidate.beside)
        if not candidate.lack:
            return False
        now_s = time.monotonic()
        deadline_s = candidate.unchanged_since_s + self.config.companion_s
        if now_s >= deadline_s:
            if not is_uploaded(candidate.name, os.listdir(self.config.incoming)):
                candidate.lack = ()
                return False
            deadline_s = now_s + self.config.scan_s
        candidate.settling = True
        heapq.heappush(self._due, (deadline_s, candidate.name))
        return True

    def _is_written_to(self, name: str) -> bool:
        """Does the control file of an upload lie beside it, as `NAME.aria2` or `NAME.part`, or has somebody a lease on
        it, as Samba takes for its clients? To ask for it makes them give it up. Source: fcntl(2), F_SETLEASE."""
        suffixes = (pattern[1:] for pattern in self.config.ignore if re.fullmatch(r"\*\.[^*?\[]+", pattern))
        if any(os.path.lexists(self.config.incoming / (name + suffix)) for suffix in suffixes):
            return True
        try:
            open_regular(self.config.incoming / name, os.O_NOFOLLOW).close()
        except BlockingIOError:
            return True
        except OSError:  # a folder; one that may not be read, of which its reader will say so
            return False
        return False

    def _marked(self, candidate: Candidate) -> bool:
        if is_companion(self.config.incoming / (candidate.name + MARKER)):
            return True
        checksum = Checksum.read(self.config.incoming / (candidate.name + CHECKSUM))
        return checksum is not None and checksum.size_bytes in (None, candidate.fingerprint.size_bytes)

    def _members_there(self, candidate: Candidate) -> bool:
        """Has the folder all that its reader asks for? Past the timeout it counts as complete, and whoever opens it
        will say what it lacks."""
        path = self.config.incoming / candidate.name
        reader = find_reader(path)
        try:
            candidate.lack = tuple(reader.missing(path)) if reader else ()
        except OSError as error:
            candidate.lack = (f"permission to look into it ({error.strerror})",)
        if not candidate.lack:
            return reader is not None
        deadline_s = candidate.seen.monotonic_s + self.config.product_timeout_s
        if time.monotonic() >= deadline_s:
            return True
        heapq.heappush(self._due, (min(deadline_s, time.monotonic() + self.config.scan_s), candidate.name))
        return False

    def _at_least(self, name: str) -> Fingerprint:
        try:
            return fingerprint_of_status((self.config.incoming / name).lstat())
        except (OSError, ValueError):
            return Fingerprint(0, 0, 0)

    def _priority(self, name: str) -> int:
        return next((rule.priority for rule in self.config.priority if fnmatchcase(name, rule.glob)), 0)


def now() -> Moment:
    utc = datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="milliseconds")
    return Moment(utc.replace("+00:00", "Z"), time.monotonic())
