"""Gives claimed scenes to the worker, one at a time, and ends each by what the worker answers, or fails to answer."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from runtime.activation import Activation, checked, roll_back
from runtime.daemon.at_work import AtWork
from runtime.daemon.commit import Commit, Retry
from runtime.daemon.config import Config
from runtime.daemon.context import Context
from runtime.daemon.ledger import Row
from runtime.daemon.pipe import Message, PipeClosed
from runtime.daemon.scene import ClaimedScene
from runtime.daemon.worker_process import WorkerProcess, activation_in
from runtime.products.publish import StagedProducts, drop_leftovers
from sarwater import errors
from sarwater.errors import ConfigurationError, DeviceUnavailable, OutputError, SarwaterError, UsageError

log = logging.getLogger("sarwater.watch")

_MAX_FAILED_STARTS = 3


class Dispatcher:
    """The worker and the claimed scenes. A context manager that leaves no worker behind."""

    def __init__(self, context: Context, commit: Commit, scenes: Sequence[ClaimedScene], worker: WorkerProcess) -> None:
        self._context = context
        self._commit = commit
        self._worker = worker
        self._successor: tuple[WorkerProcess, Config] | None = None
        self._duplicate_of: tuple[Row, str] | None = None
        self._committing: dict[str, str] = {}
        """Name and key of the mask that is complete and not visible yet: its name is taken."""
        self._failed_starts = 0
        self._stopping = False
        self.scenes = {scene.job: scene for scene in scenes}
        """Claimed and not finished, by job."""
        self.current: ClaimedScene | None = None
        """The one of them that the worker has."""
        self.activation: Activation | None = None
        """What is known of the model that the worker opened, where a link puts it in force."""
        self.at_work: AtWork | None = None
        """How far that is."""
        self._started_s = 0.0
        """When the worker got it, by `_clock_s`."""
        self._retry_at_s: dict[int, float] = {}
        """Monotonic time before which a scene waits for its retry, by job."""

    @property
    def ready(self) -> Message | None:
        """What the worker opened, once it has."""
        return self._worker.ready

    @property
    def workers(self) -> list[WorkerProcess]:
        """Those that may have something to say."""
        return [self._worker, self._successor[0]] if self._successor else [self._worker]

    @property
    def progress_s(self) -> float:
        """Monotonic time of the worker's last sign of progress."""
        return self._worker.progress_s

    @property
    def _clock_s(self) -> float:
        """Monotonic time that stands still while another process holds the ledger."""
        return time.monotonic() - self._context.ledger.locked_s

    @property
    def room_for_more(self) -> bool:
        """May another scene be claimed? Those that wait for a retry do not count, or they would block the rest."""
        claimed = len(self.scenes) - len(self._retry_at_s)
        return self.ready is not None and claimed < self._context.config.max_claimed

    @property
    def due_s(self) -> float | None:
        """Monotonic time of the next retry, where the worker is free for it."""
        return min(self._retry_at_s.values(), default=None) if self.current is None and self.ready else None

    def take(self, scene: ClaimedScene) -> None:
        """One more claimed scene."""
        self.scenes[scene.job] = scene

    def dispatch(self) -> None:
        """Give the worker its next scene, if it is free and there is one."""
        now_s = time.monotonic()
        due = [scene for scene in self.scenes.values() if self._retry_at_s.get(scene.job, now_s) <= now_s]
        if self.ready is None or self.current is not None or not due or self._context.room.paused or self._stopping:
            return
        scene = min(due, key=lambda scene: scene.order)
        self._retry_at_s.pop(scene.job, None)
        scene = dataclasses.replace(scene, attempt=self._context.ledger.started(scene.job))
        self.scenes[scene.job] = self.current = scene
        self.at_work = AtWork(scene)
        self._started_s = self._clock_s
        with contextlib.suppress(PipeClosed):  # `hear` finds out how it died
            out_dir = str(self._context.config.outgoing)
            self._worker.send(op="scene", scene=scene.to_dict(), out_dir=out_dir, committing=self._committing)

    def hear(self) -> bool:
        """Take in what the worker says; True where it just became ready. Raises what a refused model raises."""
        was_ready = self.ready is not None
        try:
            for message in self._worker.pending():
                self._take_in(message)
        except PipeClosed:
            self._died(self._worker.ended())
        else:
            if overdue := self._overdue():
                self._worker.kill()
                self._died(overdue)
        self._hear_successor()
        return self.ready is not None and not was_ready

    def replace_worker(self, config: Config, worker: WorkerProcess) -> None:
        """After a reload: once `worker` has opened its model it takes over, with its settings; until then, and if it
        cannot, everything stays as it is."""
        self._drop_successor()
        self._successor = (worker, config)

    def stop(self) -> None:
        """Let the worker finish its batch; what is not finished then returns to the inbox."""
        self._stopping = True
        patience_s = self._context.config.stop_s if self.ready else 0.0  # one that opens its model hears nothing
        for message in self._worker.stop(patience_s):
            if message["event"] in ("staged", "skipped", "failed"):
                self._take_in(message)
        drop_leftovers(self._context.config.outgoing, sole=True)
        for scene in self.scenes.values():
            if scene.job not in self._retry_at_s:
                self._commit.give_back(scene)

    def _take_in(self, message: Message) -> None:
        if self.at_work:
            self.at_work.hear(message)
        match message["event"]:
            case "ready":
                self._worker.ready = message
                self._failed_starts = 0
                self.activation = activation_in(self._context.config)
                self._context.metrics.opened(message["model_sha256"][:12], message["backend"])
                log.info("ready: %s on %s (%s)", message["model"], message["device"], message["backend"])
            case "refused":
                if not self._rolled_back(message["message"]):
                    raise as_error(message)
                self._renew_worker()
            case "validated":
                self._answer(message["key"], message["sha256"], message["mask"])
            case "staged" | "skipped" | "failed":
                scene = self._taken_back()
                message = self._judged(scene, message)
                told = message.get("staged")
                staged = StagedProducts.from_dict(told).taken_over() if told else None
                self._committing = {staged.names[-1]: staged.mask_key} if staged else {}
                if message.get("ends"):
                    self._renew_worker()
                self.dispatch()  # the worker need not wait while this one is committed
                self._keep(self._conclude(scene, message, staged))
                self._committing = {}

    def _answer(self, key: str, input_sha256: str, mask: str) -> None:
        """The key is known: is it another scene's already?"""
        assert self.current is not None
        holder = self._context.ledger.validated(self.current.job, key, input_sha256)
        if holder is None:
            self._context.ledger.running(self.current.job, mask)
            self._worker.send(op="go")
        else:
            self._duplicate_of = (holder, input_sha256)
            self._worker.send(op="skip")

    def _overdue(self) -> str:
        """Why the worker counts as hanging; empty where it does not."""
        config, now_s = self._context.config, time.monotonic()
        if self.ready is None:
            late = now_s > self._worker.progress_s + config.start_s
            return f"not ready after {config.start_s:g} s" if late else ""
        if self.current is not None and now_s > self._worker.progress_s + config.stall_s:
            return f"no progress for {config.stall_s:g} s"
        if self.current is not None and self._clock_s > self._started_s + config.scene_s:
            return f"not done after {config.scene_s:g} s"
        return ""

    def _died(self, how: str) -> None:
        self._failed_starts += self.ready is None
        if self._failed_starts >= _MAX_FAILED_STARTS and not self._rolled_back(f"the worker ended at its start: {how}"):
            raise DeviceUnavailable(
                f"the worker ended {_MAX_FAILED_STARTS} times before it was ready ({how}); see above"
            )
        drop_leftovers(self._context.config.outgoing, sole=True)
        if self.current is not None:
            scene = self._taken_back()
            message = f"the worker died on it: {how}"
            self._keep(self._commit.transient(scene, "worker_died", message, worker_died=True))
        self._renew_worker()

    def _renew_worker(self) -> None:
        self._worker.kill()
        self._worker = WorkerProcess(self._context.config, self._context.lock, self._context.worker_command)

    def _hear_successor(self) -> None:
        if self._successor is None:
            return
        worker, config = self._successor
        try:
            for message in worker.pending():
                if message["event"] == "refused":
                    raise as_error(message)
                worker.ready = message
        except (PipeClosed, SarwaterError) as error:
            log.error("reload refused: %s; the old settings stay", error)
            if config.model_file != self._context.config.model_file:
                self._roll_back(config, str(error))
            self._drop_successor()
            return
        if worker.ready is not None and self.current is None:
            self._worker.stop(self._context.config.stop_s)
            self._worker, self._successor, self._context.config = worker, None, config
            self._take_in(worker.ready)

    def _judged(self, scene: ClaimedScene, message: Message) -> Message:
        """While a model is new, what a scene says of it: one that came out well makes it less new, one that it answered
        wrongly ends it. Raises ConfigurationError where there is no model to go back to."""
        config, known = self._context.config, self.activation
        if known is None or not known.unchecked:
            return message
        if message["event"] == "staged":
            if (share := message.get("changed_share")) is not None:
                log.info("%s: %.2f %% of the pixels compared differ from the CPU's", scene.name, 100 * share)
            try:
                self.activation = checked(Path(config.model), Path(config.model_file))
            except OutputError as error:  # then the next worker begins to compare anew
                self.activation = dataclasses.replace(known, unchecked=known.unchecked - 1)
                log.warning("%s", error)
        elif message.get("kind") == "model":
            if not self._rolled_back(f"{scene.name}: {message['message']}"):
                self._commit.postpone(scene)
                raise ConfigurationError(
                    f"{config.model_file}: {message['message']}; no model was in force before it: activate another"
                )
            return {**message, "kind": "postponed"}
        return message

    def _rolled_back(self, why: str) -> bool:
        """Was the model new, and is that before it in force again?"""
        if not self._roll_back(self._context.config, why):
            return False
        self._context.config = self._context.config.but()
        self._failed_starts = 0
        return True

    def _roll_back(self, config: Config, why: str) -> bool:
        known = activation_in(config)
        found = roll_back(Path(config.model), Path(config.model_file), why) if known and known.unchecked else None
        if found is None:
            return False
        text = f"{config.model_file}: {why}; rolled back: {found.model} is in force again"
        log.error("%s", text)
        self._context.metrics.rolled_back()
        self._context.ledger.tell("rolled_back", text)
        if self.activation:
            self.activation = found
        return True

    def _drop_successor(self) -> None:
        if self._successor:
            self._successor[0].kill()
            self._successor = None

    def _taken_back(self) -> ClaimedScene:
        """The current scene, which the worker has no longer."""
        assert self.current is not None
        scene, self.current, self.at_work = self.current, None, None
        return self.scenes.pop(scene.job)

    def _conclude(self, scene: ClaimedScene, message: Message, staged: StagedProducts | None) -> Retry | None:
        if staged is not None:
            try:
                return self._commit.commit(scene, staged)
            except OutputError as error:
                return self._not_written(scene, str(error), error.__cause__)
        if message["event"] == "skipped":
            assert self._duplicate_of is not None
            self._commit.duplicate(scene, *self._duplicate_of)
            return None
        if message["kind"] == "postponed":
            return self._commit.postpone(scene)
        if message["kind"] == "permanent":
            return self._commit.broken(scene, message["reason"], message["message"])
        if message["kind"] == "output":
            code = message["errno"]
            return self._not_written(scene, message["message"], OSError(code, os.strerror(code)) if code else None)
        if message["gpu"]:
            self._context.metrics.gpu_error(message["gpu"])
        return self._commit.transient(scene, message["reason"], message["message"])

    def _not_written(self, scene: ClaimedScene, message: str, cause: BaseException | None) -> Retry | None:
        """A full or read-only folder pauses the daemon, a broken disk ends it, anything else is one failed attempt."""
        if isinstance(cause, OSError) and cause.errno == errno.EIO:
            raise cause
        if self._context.room.refuses():
            return self._commit.postpone(scene)
        return self._commit.transient(scene, "output", message)

    def _keep(self, retry: Retry | None) -> None:
        """A scene that is to be tried again stays claimed."""
        if retry is not None:
            self.scenes[retry.scene.job] = retry.scene
            self._retry_at_s[retry.scene.job] = retry.at_s

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop_successor()
        self._worker.kill()


def as_error(message: Message) -> SarwaterError:
    """The worker's refusal as the error that it was there. What it was asked for stands in the settings: a model or
    device that is unknown is theirs to mend, and no restart helps."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SarwaterError)]
    kind = next((kind for kind in kinds if kind.reason == message["reason"]), SarwaterError)
    return (ConfigurationError if issubclass(kind, UsageError) else kind)(message["message"])
