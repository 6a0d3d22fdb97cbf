"""The supervisor: one thread, one loop around inbox and worker.

A turn takes in what happened, then does whatever that allows: claims up to the limit, gives the worker its next scene.
Each step that must survive a power cut is durable before the next one, so `recover` can repair a crash at any line.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runtime.daemon.claim import Claims, take_over
from runtime.daemon.commit import Commit
from runtime.daemon.config import Config
from runtime.daemon.context import Context
from runtime.daemon.damage import LedgerDamaged, as_damage, is_damage
from runtime.daemon.dispatcher import Dispatcher
from runtime.daemon.folders import Folders
from runtime.daemon.health import Health
from runtime.daemon.inotify import Hints
from runtime.daemon.item import shown
from runtime.daemon.ledger import FILE_NAME, Ledger
from runtime.daemon.lock import Lock
from runtime.daemon.metrics import Metrics
from runtime.daemon.notify import Systemd
from runtime.daemon.recovery import recover
from runtime.daemon.room import Room, is_no_space, refuses_files
from runtime.daemon.worker_process import WORKER_COMMAND, WorkerProcess, request_of
from runtime.products.catalogue import Catalogue
from runtime.products.publish import drop_leftovers
from runtime.telling.post import Post
from sarwater.errors import ConfigurationError, OutputError, SceneError

log = logging.getLogger("sarwater.watch")

_LONGEST_WAIT_S = 1.0
_REPORT_S = 5.0
_LOCKED_AGAIN_S = 0.3
_LOCKED_ONCE_S = 30.0
"""How long `--once` waits for a ledger that somebody else holds."""
_FLUSH_S, _FLUSH_ONCE_S = 1.0, 30.0
"""Time for what others are still to be told, at a stop and at the end of `--once`."""
_NAMED = 10
_FIXED = ("incoming", "outgoing", "state", "read_only_inbox", "metrics_port", "health_file", "page", "page_token_file")
"""Settings that only a restart can change."""


class _Stopped(Exception):
    """It was told to stop while it waited for the ledger."""


class Supervisor:
    """`run()` returns when it was told to stop or, with `once`, when all that is complete was worked off.

    `reload` gives the new settings on SIGHUP, or raises ConfigurationError.
    """

    def __init__(
        self,
        config: Config,
        *,
        once: bool = False,
        reload: Callable[[], Config] | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._config = config
        self._once = once
        self._reload = reload
        self._worker_command = worker_command
        self._systemd = Systemd()
        self._metrics = Metrics()
        self._health = Health(config.health_path)
        self._stopping = False
        self._reloading = False
        self._pinged_s = 0.0
        self._reported_s = 0.0
        self._paused = ""
        self._was_full = False
        self._locked_since_s: float | None = None
        """Monotonic time since which another process holds the ledger."""

    def run(self) -> None:
        """Raises ConfigurationError, ModelError, OutputError where the daemon itself cannot go on, and with `once`, at
        the end, SceneError for scenes that went to quarantine."""
        with self._signals():
            if self._config.metrics_port is not None:
                self._metrics.serve(self._config.metrics_port)
            while not self._stopping:
                try:
                    self._session()
                    return
                except _Stopped:
                    return
                except (OSError, sqlite3.DatabaseError, LedgerDamaged) as error:
                    # Never retried in place: after a failed fsync the kernel may have dropped the data it was about.
                    full = self._is_full(error)
                    if full and not self._once:
                        self._await_space(error)
                        continue
                    cause: Exception = error
                    if isinstance(error, sqlite3.DatabaseError) and not full and is_damage(error):
                        cause = as_damage(self._config.state / FILE_NAME, error)
                    if isinstance(cause, LedgerDamaged):
                        raise cause from error
                    raise OutputError(f"{_where(cause)}; the daemon ends, the next one recovers") from error

    def _session(self) -> None:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            stack.callback(self._keep_settings)
            while not self._finished():
                self._wait()
                self._turn()
            self._systemd.tell("STOPPING=1")
            self._tell_health()
            self._dispatcher.stop()
            self._post.flush(_FLUSH_ONCE_S if self._once else _FLUSH_S)
            self._report(time.monotonic())
            if self._once and (quarantine := self._commit.quarantine):
                names = ", ".join(f"{shown(name)} ({reason})" for name, reason in list(quarantine.items())[:_NAMED])
                more = f" and {len(quarantine) - _NAMED} more" if len(quarantine) > _NAMED else ""
                state = self._config.state
                raise SceneError(
                    f"{len(quarantine)} in quarantine: {names}{more}; see {state}/quarantine, or "
                    f"`sarwater queue list --state {state}`"
                )

    def _keep_settings(self) -> None:
        """For the next session: those of the last reload."""
        self._config = self._context.config

    def _open(self, stack: contextlib.ExitStack) -> None:
        config = self._config
        folders = Folders(config.incoming, config.outgoing, config.state, config.read_only_inbox)
        folders.prepare()
        self._health.tell("starting")
        lock = stack.enter_context(Lock(config.state, config.incoming, config.outgoing))
        folders.drop_unpacked()
        self._serve_page(stack)
        worker = stack.enter_context(WorkerProcess(config, lock, self._worker_command))
        ledger = stack.enter_context(Ledger(config.state / FILE_NAME, while_locked=self._await_ledger))
        ledger.note_folders(
            incoming=config.incoming, outgoing=config.outgoing, health=config.health_path, latency=config.latency_path
        )
        self._post = stack.enter_context(Post(ledger, self._metrics, config.tell, config.outgoing))
        drop_leftovers(config.outgoing, sole=True)
        recover(ledger, folders, config.after == "remove", no_space=self._was_full)
        room = Room(config.outgoing, config.state)
        self._context = Context(config, folders, ledger, room, self._metrics, lock, self._worker_command)
        self._catalogue = Catalogue(config.outgoing)
        self._hints = self._open_hints(stack)
        self._claims = Claims(self._context, self._hints, self._goes_on)
        self._commit = Commit(self._context)
        scenes = take_over(self._context, self._commit)
        self._dispatcher = stack.enter_context(Dispatcher(self._context, self._commit, scenes, worker))

    def _serve_page(self, stack: contextlib.ExitStack) -> None:
        config = self._config
        if config.page is not None:
            from runtime.page.content import Content
            from runtime.page.server import serve_page

            server = serve_page(config.page, Content(config.state, config.outgoing, config.page_token_file))
            if server is not None:
                stack.callback(server.server_close)
                stack.callback(server.shutdown)

    def _open_hints(self, stack: contextlib.ExitStack) -> Hints | None:
        try:
            return stack.enter_context(Hints(self._config.incoming))
        except OSError as error:
            limit = "; raise fs.inotify.max_user_instances" if error.errno in (errno.EMFILE, errno.ENOSPC) else ""
            what_now = f"no events, the inbox is scanned every {self._config.scan_s:g} s"
            log.warning("%s: %s (%s%s)", error.filename, what_now, error.strerror, limit)
            return None

    def _finished(self) -> bool:
        if self._stopping or not self._once:
            return self._stopping
        if not self._dispatcher.ready or self._dispatcher.scenes or self._claims.waiting or self._claims.may_settle():
            return False
        if short := self._claims.short_of_room:
            raise OutputError(f"{short}; the scenes are kept: free space or fix permissions, then run again")
        for name, lack in self._claims.unsettled().items():
            log.warning("%s: not complete yet%s; left in the inbox", name, f" (without {lack})" if lack else "")
        return True

    def _is_full(self, error: Exception) -> bool:
        return is_no_space(error) or is_no_space(refuses_files(self._config.state))

    def _await_space(self, error: Exception) -> None:
        self._was_full = True
        log.warning("paused: %s; waiting for space", _where(error))
        while not self._stopping and is_no_space(refuses_files(self._config.state)):
            self._stay_paused("space", _where(error))
            self._listen([], min(self._config.scan_s, _REPORT_S))
        self._metrics.paused("")

    def _await_ledger(self, holder: str) -> None:
        """Nothing is claimed or committed meanwhile; the worker goes on with what it has."""
        now_s = time.monotonic()
        if self._stopping:
            raise _Stopped
        if self._locked_since_s is None:
            self._locked_since_s = now_s
            log.warning("paused: the ledger is locked by %s; it goes on when that one lets go", holder)
        if self._once and now_s >= self._locked_since_s + _LOCKED_ONCE_S:
            raise OutputError(f"the ledger is locked by {holder}; the scenes are kept: end it, then run again")
        self._stay_paused("ledger", f"the ledger is locked by {holder}")
        self._listen([], _LOCKED_AGAIN_S)

    def _stay_paused(self, reason: str, why: str) -> None:
        """Where no turn is taken meanwhile: show life, and why."""
        self._systemd.tell(f"STATUS=paused: {why}", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000")
        self._health.tell("paused", why)
        self._metrics.paused(reason)
        self._metrics.progressed()
        if time.monotonic() >= self._reported_s + _REPORT_S:
            self._reported_s = time.monotonic()
            self._metrics.write(self._config.metrics_path)

    def _note_free_ledger(self) -> None:
        if self._locked_since_s is not None:
            log.info("the ledger is free again")
            self._systemd.tell("STATUS=watching")
            self._metrics.paused(self._context.room.reason)
            self._locked_since_s = None

    def _wait(self) -> None:
        """Until something happens or is due; a turn leaves nothing undone that could be done at once."""
        next_s = self._claims.next_look_s
        due_s = [next_s, self._dispatcher.due_s or next_s, self._post.due_s or next_s]
        timeout_s = min(_LONGEST_WAIT_S, max(0.0, min(due_s) - time.monotonic()))
        sources: list[Any] = [*self._dispatcher.workers, self._post, *([self._hints] if self._hints else [])]
        self._listen(sources, _LONGEST_WAIT_S if self._paused else timeout_s)

    def _listen(self, sources: Sequence[Any], timeout_s: float) -> None:
        """Wait for one of `sources` or a signal."""
        if self._signal_end in select.select([self._signal_end, *sources], [], [], timeout_s)[0]:
            self._signal_end.recv(64)

    def _turn(self) -> None:
        if self._reloading:
            self._reloading = False
            self._take_new_settings()
        if self._dispatcher.hear():
            self._systemd.tell("READY=1", "STATUS=watching")
        if self._dispatcher.ready:
            self._health.opened(self._dispatcher.ready, self._dispatcher.activation)
        self._claims.look()
        self._check_room()
        if not self._paused:
            while self._dispatcher.room_for_more and (scene := self._claims.claim()):
                self._dispatcher.take(scene)
        self._dispatcher.dispatch()
        self._post.adopt(self._context.config.tell)
        self._post.turn()
        self._show_life()
        self._note_free_ledger()

    def _check_room(self) -> None:
        before, self._paused = self._paused, self._context.room.check(self._context.config.free_fraction, 0)
        if self._paused and self._once:
            raise OutputError(f"{self._paused}; the scenes are kept: free space or fix permissions, then run again")
        if self._paused and not before:
            log.warning("paused, no scene is claimed: %s", self._paused)
            self._systemd.tell(f"STATUS=paused: {self._paused}")
            self._context.ledger.tell("paused", self._paused)
        elif before and not self._paused:
            log.info("there is room again")
            self._context.ledger.tell("resumed", "there is room again")
            self._systemd.tell("STATUS=watching")
        self._metrics.paused(self._context.room.reason)

    def _show_life(self) -> None:
        """Watchdog ping and heartbeat, only for real progress: a recent scan and, with a scene, tiles that advance."""
        now_s = time.monotonic()
        config = self._context.config
        scanned = now_s < self._claims.next_scan_s + config.scan_s
        advancing = self._dispatcher.current is None or now_s < self._dispatcher.progress_s + config.stall_s
        if scanned and advancing:
            self._metrics.progressed()
            self._ping(now_s)
            self._tell_health()
        if now_s >= self._reported_s + _REPORT_S:
            self._report(now_s)

    def _goes_on(self) -> bool:
        """Between two items of a scan, however many there are: show life, and see whether to stop."""
        self._ping(time.monotonic())
        return not self._stopping

    def _ping(self, now_s: float) -> None:
        if self._systemd.watchdog_s and now_s >= self._pinged_s + self._systemd.watchdog_s / 2:
            self._systemd.tell("WATCHDOG=1")
            self._pinged_s = now_s

    def _report(self, now_s: float) -> None:
        self._reported_s = now_s
        ledger, config = self._context.ledger, self._context.config
        self._metrics.queue(ledger.pending_counts(), ledger.oldest_pending_utc())
        self._metrics.disk(config.incoming, config.outgoing, config.state)
        self._metrics.write(config.metrics_path)
        with contextlib.suppress(OSError):  # it is made of the items, and made again later
            self._catalogue.update(now=self._once)

    def _tell_health(self) -> None:
        work = self._dispatcher.at_work
        at_rest = "idle" if self._dispatcher.ready else "starting"
        state = "stopping" if self._stopping else "paused" if self._paused else "working" if work else at_rest
        scene = work.to_dict() if work else None
        self._health.tell(state, self._paused, scene, self._claims.short_of_room)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop, SIGHUP reloads; each also wakes the loop."""

        def note(number: int, _frame: Any) -> None:
            self._reloading |= number == signal.SIGHUP
            self._stopping |= number != signal.SIGHUP

        self._signal_end, theirs = socket.socketpair()
        theirs.setblocking(False)
        numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if self._reload else [])]
        before = {number: signal.signal(number, note) for number in numbers}
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._signal_end.close()
            theirs.close()

    def _take_new_settings(self) -> None:
        """All of the new settings, or none: they are checked first, with a new worker where the model is concerned."""
        assert self._reload is not None
        old = self._context.config
        try:
            new = self._reload()
            if changed := [key for key in _FIXED if getattr(new, key) != getattr(old, key)]:
                raise ConfigurationError(f"{', '.join(changed)} changed; that takes a restart")
        except ConfigurationError as error:
            log.error("reload refused: %s; the old settings stay", error)
            return
        if (new.model_file, new.device, request_of(new)) != (old.model_file, old.device, request_of(old)):
            worker = WorkerProcess(new, self._context.lock, self._worker_command)
            self._dispatcher.replace_worker(new, worker)
        else:
            self._context.config = new
            log.info("new settings are in force")


def _where(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'state or outgoing folder'}: {error.strerror}"
    return f"ledger: {error}"
