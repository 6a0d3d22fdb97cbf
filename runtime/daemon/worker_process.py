"""The supervisor's handle on its worker: started, talked to, watched for progress, killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.activation import Activation, activation_of
from runtime.daemon.config import Config
from runtime.daemon.folders import unpacked_folder
from runtime.daemon.lock import Lock
from runtime.daemon.pipe import Message, Pipe, PipeClosed
from sarwater.request import REQUEST_FIELDS

WORKER_COMMAND = (sys.executable, "-m", "runtime.daemon.worker")


class WorkerProcess:
    """One worker; a context manager that leaves no process behind. `ready` is its own account of what it opened."""

    def __init__(self, config: Config, lock: Lock | None, command: Sequence[str] = WORKER_COMMAND) -> None:
        """The worker holds the daemon's lock, too, as long as it lives. Raises ConfigurationError."""
        known = activation_in(config)
        self._scratch = unpacked_folder(config.state) / uuid.uuid4().hex[:8]
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(), *(lock.filenos() if lock else ())),
                stdin=subprocess.DEVNULL,
            )
        self._pipe = Pipe(ours)
        self.ready: Message | None = None
        self.progress_s = time.monotonic()
        """Monotonic time of the last sign of progress."""
        self._pipe.send(
            op="open",
            model=config.model_file,
            sha256=known.sha256 if known else "",
            reference=known.reference if known and known.unchecked else None,
            compared=known.unchecked if known else 0,
            device=config.device,
            request=request_of(config),
            scratch=str(self._scratch.absolute()),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._pipe.fileno()

    def send(self, **message: Any) -> None:
        """Raises PipeClosed."""
        self._pipe.send(**message)
        self.progress_s = time.monotonic()

    def pending(self) -> list[Message]:
        """Messages that wait. Raises PipeClosed when the worker is gone."""
        messages = self._pipe.pending()
        if messages:
            self.progress_s = time.monotonic()
        return messages

    def stop(self, patience_s: float) -> list[Message]:
        """Let it end after the current batch, kill it when that takes over `patience_s`; returns its last words."""
        messages: list[Message] = []
        with contextlib.suppress(PipeClosed, subprocess.TimeoutExpired):
            self._pipe.send(op="stop")
            self._process.wait(patience_s)
        with contextlib.suppress(PipeClosed):
            messages = self._pipe.pending()
        self.kill()
        return messages

    def kill(self) -> str:
        """End it for certain; returns how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._pipe.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def ended(self) -> str:
        """How a worker that closed its pipe ended."""
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return self.kill()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def activation_in(config: Config) -> Activation | None:
    """What is known of the model that these settings put in force by a link. Raises ConfigurationError."""
    if config.model == config.model_file:
        return None
    return activation_of(Path(config.model), Path(config.model_file))


def request_of(config: Config) -> dict[str, Any]:
    """The part of the settings that the worker needs, as JSON values."""
    return config.model_dump(mode="json", include=set(REQUEST_FIELDS))
