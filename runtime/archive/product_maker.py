"""The daemon's worker process, which makes the products of one scene after the other; watched, and started anew when it
is gone. It takes a segfault alone; a scene that ends two of them is set aside."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.archive.job import Head
from runtime.archive.memory import resident_bytes
from runtime.daemon.config import Config
from runtime.daemon.dispatcher import as_error
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.pipe import Message, PipeClosed
from runtime.daemon.scene import ClaimedScene
from runtime.daemon.worker_process import WORKER_COMMAND, WorkerProcess
from runtime.products.publish import StagedProducts
from sarwater import __version__
from sarwater.errors import DeviceUnavailable, HashMismatch

MAX_DEATHS = 2
"""Worker processes that may die on a scene before it is set aside, as in the daemon."""
_MAX_FAILED_STARTS = 3
_LOOK_S = 0.5
"""Between two looks at how much memory the process has."""


class MakingFailed(Exception):
    """The process's answer to a scene."""

    def __init__(self, message: Message) -> None:
        super().__init__(message["message"])
        self.kind, self.reason = message["kind"], message["reason"]


class MakerDied(Exception):
    """The process ended, or was ended because it did not go on, as often as a scene may cost."""


class ProductMaker:
    """One process, for scenes of one plan, one at a time."""

    def __init__(self, head: Head, folder: Path, command: Sequence[str] = WORKER_COMMAND) -> None:
        """`folder` is empty, and this process's own."""
        self._head, self._command = head, command
        self._config = _configured(head, folder)
        self._process: WorkerProcess | None = None
        self._failed_starts = 0
        self.most_bytes = 0
        """Most that it was seen to have in memory."""

    def staged(self, path: Path, out_dir: Path, is_there: Callable[[str], bool]) -> tuple[str, StagedProducts | None]:
        """(the mask's key, the products of the scene at `path`; None where `is_there` says of the key that they are).

        Raises MakingFailed, MakerDied, what `is_there` raises, and of a broken set-up HashMismatch, DeviceUnavailable,
        DependencyMissing.
        """
        for left in range(MAX_DEATHS - 1, -1, -1):
            try:
                return self._tried(path, out_dir, is_there)
            except MakerDied:
                self._end()
                if not left:
                    raise
        raise AssertionError

    def _tried(self, path: Path, out_dir: Path, is_there: Callable[[str], bool]) -> tuple[str, StagedProducts | None]:
        process = self._ready()
        key, started_s = "", time.monotonic()
        try:
            process.send(op="scene", scene=_claimed(path).to_dict(), out_dir=str(out_dir), committing={})
            while True:
                for message in self._heard(process, self._config.stall_s, started_s + self._config.scene_s):
                    match message["event"]:
                        case "validated":
                            key = message["key"]
                            process.send(op="skip" if self._asked(is_there, key) else "go")
                        case "skipped":
                            return key, None
                        case "staged":
                            return key, StagedProducts.from_dict(message["staged"])
                        case "failed":
                            if message.get("ends"):
                                self._end()
                            raise MakingFailed(message)
        except PipeClosed:
            raise MakerDied(process.ended()) from None

    def _asked(self, is_there: Callable[[str], bool], key: str) -> bool:
        try:
            return is_there(key)
        except BaseException:
            self._end()  # it waits for an answer
            raise

    def _ready(self) -> WorkerProcess:
        while self._process is None or self._process.ready is None:
            if self._process is None:
                self._process = WorkerProcess(self._config, None, self._command)
            try:
                for message in self._heard(self._process, self._config.start_s, float("inf")):
                    if message["event"] == "refused":
                        self._end()
                        raise as_error(message)
                    self._check(message["model_sha256"])
                    self._process.ready = message
            except (PipeClosed, MakerDied) as error:
                self._end()
                self._failed_starts += 1
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    raise DeviceUnavailable(
                        f"the worker ended {_MAX_FAILED_STARTS} times before it was ready ({error}); see above"
                    ) from None
        self._failed_starts = 0
        return self._process

    def _check(self, model_sha256: str) -> None:
        """That what is installed here makes the masks of the plan."""
        for what, found, planned in (
            ("sarwater", __version__, self._head.software),
            (self._head.model, model_sha256, self._head.model_sha256),
        ):
            if found != planned:
                self._end()
                raise HashMismatch(
                    f"{socket.gethostname()}: {what} is {found[:12]} here, the plan was made with {planned[:12]}; "
                    "install the same on every worker"
                )

    def _heard(self, process: WorkerProcess, stall_s: float, until_s: float) -> list[Message]:
        """What it says next. Raises PipeClosed; MakerDied where it says nothing for too long or has too much memory."""
        while True:
            self._keep_memory(process)
            wait_s = min(process.progress_s + stall_s, until_s) - time.monotonic()
            if wait_s <= 0:
                raise MakerDied(
                    f"no progress for {stall_s:g} s"
                    if time.monotonic() < until_s
                    else f"not done after {self._config.scene_s:g} s"
                )
            if select.select([process], [], [], min(wait_s, _LOOK_S))[0]:
                return process.pending()

    def _keep_memory(self, process: WorkerProcess) -> None:
        """Raises MakerDied where it has more than it may."""
        found_bytes, most_bytes = resident_bytes(process.pid), self._head.memory_bytes
        self.most_bytes = max(self.most_bytes, found_bytes)
        if most_bytes and found_bytes > most_bytes:
            raise MakerDied(
                f"{found_bytes / 1e9:.2f} GB in memory, more than the {most_bytes / 1e9:.2f} GB it may have"
            )

    def _end(self) -> None:
        """The next scene starts another process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def close(self) -> None:
        self._end()


def _claimed(path: Path) -> ClaimedScene:
    status = path.stat()
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    found = Fingerprint(status.st_ino, sum(file.stat().st_size for file in files), status.st_mtime_ns)
    return ClaimedScene(0, path.name, path, 0, found, "scan")


def _configured(head: Head, folder: Path) -> Config:
    folders = {name: folder / name for name in ("in", "out", "state")}
    for each in folders.values():
        each.mkdir()
    return Config(
        incoming=folders["in"],
        outgoing=folders["out"],
        state=folders["state"],
        model=head.model,
        device=head.device,
        **head.request,
    )
