"""The supervisor: detects, claims, keeps the ledger and publishes; the worker decodes and infers.

One thread, one loop. A turn takes in what happened (inbox, worker), then does whatever that allows: claims up to the
limit, gives the worker its next scene. Each step that must survive a power cut is durable before the next one, so
`recover` can repair a crash at any line of it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.channel import ChannelClosed, Message
from runtime.config import Config
from runtime.custody import Folders, Lock
from runtime.inotify import Hints
from runtime.intake import Intake, Job, taken_over
from runtime.ledger import FILE_NAME, Ledger, Row
from runtime.notify import Systemd
from runtime.outcome import Outcome
from runtime.publish import StagedProducts, drop_leftovers
from runtime.recovery import recover
from runtime.room import Room, refuses_files
from runtime.worker_process import WORKER_COMMAND, WorkerProcess
from sarwater import errors
from sarwater.errors import OutputError, SarwaterError

log = logging.getLogger("sarwater.watch")

_MAX_FAILED_STARTS = 3
_LONGEST_WAIT_S = 1.0


class Supervisor:
    """`run()` returns when it was told to stop or, with `once`, when all that is complete was worked off."""

    def __init__(self, config: Config, *, once: bool = False, worker_command: Sequence[str] = WORKER_COMMAND) -> None:
        self._config = config
        self._once = once
        self._worker_command = worker_command
        self._systemd = Systemd()
        self._folders = Folders(config.incoming, config.outgoing, config.state, config.read_only_inbox)
        self._room = Room(config.free_fraction, config.outgoing, config.state)
        self._jobs: dict[int, Job] = {}
        self._current: Job | None = None
        self._duplicate_of: tuple[Row, str] | None = None
        self._paused = ""
        self._failed_starts = 0
        self._stopping = False
        self._worker: WorkerProcess | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Raises ConfigurationError, ModelError, OutputError where the daemon itself cannot go on."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._signals())
            try:
                self._open(stack)
                while not self._finished():
                    self._wait()
                    self._turn()
                self._stop()
            except (OSError, sqlite3.OperationalError) as error:
                # Never retried: after a failed fsync the kernel may have dropped the very data it was about.
                raise OutputError(f"{_where(error)}; the daemon ends, and starts over from the ledger") from error
        return 0

    # -- start and stop -----------------------------------------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack) -> None:
        self._prepare_folders()
        self._lock = stack.enter_context(Lock(self._config.state))
        stack.callback(self._drop_worker)
        self._start_worker()
        self._ledger = stack.enter_context(Ledger(self._config.state / FILE_NAME))
        drop_leftovers(self._config.outgoing)
        recover(self._ledger, self._folders, self._config.after == "remove")
        self._intake = Intake(self._config, self._folders, self._ledger, self._open_hints(stack))
        self._outcome = Outcome(self._config, self._folders, self._ledger, self._intake)
        self._jobs = {job.id: job for job in taken_over(self._ledger, self._folders)}

    def _prepare_folders(self) -> None:
        while True:
            try:
                return self._folders.prepare()
            except OSError as error:
                if self._once or self._stopping or error.errno != errno.ENOSPC:
                    raise
                log.warning("%s; waiting for space", _where(error))
                self._systemd.tell(f"STATUS=waiting: {_where(error)}", "EXTEND_TIMEOUT_USEC=60000000")
            self._selector.select(self._config.scan_s)

    def _open_hints(self, stack: contextlib.ExitStack) -> Hints | None:
        try:
            hints = stack.enter_context(Hints(self._config.incoming))
        except OSError as error:
            log.warning("%s; the inbox is scanned every %g s", _where(error), self._config.scan_s)
            return None
        self._selector.register(hints, selectors.EVENT_READ)
        return hints

    def _finished(self) -> bool:
        if self._stopping:
            return True
        if not self._once or not self._ready or self._jobs or self._intake.waiting or self._intake.may_settle():
            return False
        for name in self._intake.unsettled():
            log.warning("%s: not complete yet; left in the inbox", name)
        return True

    def _stop(self) -> None:
        """Finish what the worker can finish in time; everything else returns to the inbox."""
        self._systemd.tell("STOPPING=1")
        if self._worker is not None:
            for message in self._worker.stop(self._config.stop_s):
                if message["event"] in ("staged", "skipped", "failed"):
                    self._hear(message)
        drop_leftovers(self._config.outgoing)
        for job in self._jobs.values():
            if job.retry_at_s is None:
                self._outcome.give_back(job)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the loop; each signal also wakes it."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)

        def stop(_number: int, _frame: Any) -> None:
            self._stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._selector.register(ours, selectors.EVENT_READ, ours)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()

    # -- one turn -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until something happens or is due; a turn leaves nothing undone that could be done at once."""
        due_s = [self._intake.next_look_s]
        if self._current is None:
            due_s += [job.retry_at_s for job in self._jobs.values() if job.retry_at_s is not None]
        timeout_s = min(_LONGEST_WAIT_S, max(0.0, min(due_s) - time.monotonic()))
        if self._paused:
            timeout_s = _LONGEST_WAIT_S
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, socket.socket):
                key.data.recv(64)

    def _turn(self) -> None:
        self._hear_worker()
        self._intake.look()
        self._check_room()
        self._claim()
        self._dispatch()

    def _claim(self) -> None:
        """Take scenes out of the inbox, up to the limit; none before the model is open and none while paused."""
        while self._ready and not self._paused:
            if sum(job.retry_at_s is None for job in self._jobs.values()) >= self._config.max_claimed:
                return
            job = self._intake.claim()
            if job is None:
                return
            if job.problem:
                self._outcome.broken(job, "product_incomplete", job.problem)
            else:
                self._jobs[job.id] = job

    def _check_room(self) -> None:
        """No scene is claimed or started while there is no room for its products."""
        before = self._paused
        if self._paused and (refusal := refuses_files(self._config.outgoing)):
            self._paused = refusal
        else:
            self._paused = self._room.lack(self._intake.next_bytes)
        if self._paused and self._once:
            raise OutputError(f"{self._paused}; the scenes are kept: free space or fix permissions, then run again")
        if self._paused != before and bool(self._paused) != bool(before):
            log.warning("paused: %s", self._paused) if self._paused else log.info("there is room again")
            self._systemd.tell(f"STATUS=paused: {self._paused}" if self._paused else "STATUS=watching")

    def _dispatch(self) -> None:
        if self._worker is None or not self._ready or self._current is not None or self._paused:
            return
        now_s = time.monotonic()
        due = [job for job in self._jobs.values() if job.retry_at_s is None or job.retry_at_s <= now_s]
        if not due:
            return
        job = min(due, key=lambda job: job.order)
        job.retry_at_s, job.started_s = None, now_s
        job.attempts = self._ledger.started(job.id)
        self._current = job
        with contextlib.suppress(ChannelClosed):  # the next turn finds out how it died
            self._worker.send(
                op="scene",
                path=str(self._intake.main(job)),
                root=str(job.root),
                name=job.name,
                out_dir=str(self._config.outgoing),
                sha256=self._folders.manifest_sha256(job.id, job.name),
            )

    # -- the worker ---------------------------------------------------------------------------------------------------

    @property
    def _ready(self) -> bool:
        return self._worker is not None and self._worker.ready is not None

    def _start_worker(self) -> None:
        self._worker = WorkerProcess(self._config, self._lock.fileno(), self._worker_command)
        self._selector.register(self._worker, selectors.EVENT_READ)

    def _drop_worker(self) -> None:
        if self._worker is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._worker)
            self._worker.kill()
            self._worker = None

    def _hear_worker(self) -> None:
        assert self._worker is not None
        try:
            for message in self._worker.pending():
                self._hear(message)
        except ChannelClosed:
            self._worker_died(self._worker.ended())
            return
        job, now_s = self._current, time.monotonic()
        if job is None:
            if not self._ready and now_s > self._worker.progress_s + self._config.start_s:
                self._worker.kill()
                self._worker_died(f"not ready after {self._config.start_s:g} s")
        elif now_s > self._worker.progress_s + self._config.stall_s:
            self._worker.kill()
            self._worker_died(f"no progress for {self._config.stall_s:g} s")
        elif now_s > job.started_s + self._config.scene_s:
            self._worker.kill()
            self._worker_died(f"not done after {self._config.scene_s:g} s")

    def _worker_died(self, how: str) -> None:
        was_ready = self._ready
        self._drop_worker()
        drop_leftovers(self._config.outgoing)
        self._failed_starts = 0 if was_ready else self._failed_starts + 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise errors.DeviceUnavailable(
                f"the worker ended {self._failed_starts} times before it was ready ({how}); see the log"
            )
        if self._current is not None:
            job = self._end_current()
            self._outcome.transient(job, "worker_died", f"the worker died on it: {how}", worker_died=True)
            self._settle_account(job)
        self._start_worker()

    def _hear(self, message: Message) -> None:
        assert self._worker is not None
        match message["event"]:
            case "ready":
                self._worker.ready = message
                log.info("ready: %s on %s (%s)", message["model"], message["device"], message["backend"])
                self._systemd.tell("READY=1", "STATUS=watching")
            case "refused":
                raise _error(message)
            case "validated":
                self._answer(message)
            case "staged" | "skipped" | "failed":
                job = self._end_current()
                self._conclude(job, message)
                self._settle_account(job)

    def _answer(self, message: Message) -> None:
        """The key is known: is it another row's already?"""
        assert self._current is not None
        assert self._worker is not None
        holder = self._ledger.validated(self._current.id, message["key"], message["sha256"])
        if holder is None:
            self._ledger.running(self._current.id)
            self._worker.send(op="go")
        else:
            self._duplicate_of = (holder, message["sha256"])
            self._worker.send(op="skip")

    def _conclude(self, job: Job, message: Message) -> None:
        if message["event"] == "staged":
            try:
                self._outcome.commit(job, StagedProducts.from_dict(message["staged"]))
            except OutputError as error:
                self._outgoing_failed(job, str(error), error.__cause__)
        elif message["event"] == "skipped":
            assert self._duplicate_of is not None
            self._outcome.duplicate(job, *self._duplicate_of)
        elif message["kind"] == "permanent":
            self._outcome.broken(job, message["reason"], message["message"])
        elif message["kind"] == "output":
            cause = OSError(message["errno"], os.strerror(message["errno"])) if message["errno"] else None
            self._outgoing_failed(job, message["message"], cause)
        else:
            self._outcome.transient(job, message["reason"], message["message"])

    def _outgoing_failed(self, job: Job, message: str, cause: BaseException | None) -> None:
        """A full or read-only folder pauses the daemon, a broken disk ends it, anything else is one failed attempt."""
        if isinstance(cause, OSError) and cause.errno == errno.EIO:
            raise cause
        refusal = refuses_files(self._config.outgoing) or self._room.lack(job.signature.size_bytes)
        if refusal:
            self._outcome.postpone(job)
            self._paused = refusal
            log.warning("paused: %s", refusal)
        else:
            self._outcome.transient(job, "output", message)

    def _end_current(self) -> Job:
        assert self._current is not None
        job, self._current = self._current, None
        return job

    def _settle_account(self, job: Job) -> None:
        """Keep the job only if it is to be tried again."""
        if job.retry_at_s is None:
            self._jobs.pop(job.id, None)


def _error(message: Message) -> SarwaterError:
    """The worker's refusal as the error it was there."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SarwaterError)]
    kind = next((kind for kind in kinds if kind.reason == message["reason"]), SarwaterError)
    return kind(message["message"])


def _where(error: OSError | sqlite3.OperationalError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'state or outgoing folder'}: {error.strerror}"
    return f"ledger: {error}"
