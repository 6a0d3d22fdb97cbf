"""A scene is opened on trial first: in another process, under a budget that the operating system enforces.

Headers are decoded by large libraries (libtiff, HDF5, PROJ), which a hostile file can send into hours of work, into
more memory than there is, or into a segmentation fault. On trial that costs the file alone, in a one-shot command as in
the daemon's worker.

    this process            trial_server.py, started once          its child, one per scene
    path, name, limits ──▶  has GDAL and HDF5 loaded, forks   ──▶  limits itself, opens the scene
    raises, or goes on ◀──  says what became of the child     ◀──  says what went wrong, or stays to decode

This process is never forked: a fork of one that has threads may wait forever for a lock that one of them held. A child
that has opened a scene decodes its pixels, too, as long as somebody has the scene open (decoding.py).

A trial that waits without computing (a disk that spins up) proves nothing against the file: after `PATIENCE_S` it is
let go, and the scene is opened the plain way. So it is where the server cannot be started, or dies: a machine that is
short of something must not cost a scene. The next scene gets a new server. Elsewhere than on Linux there is none.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sarwater.request import Limits
from sarwater.scenes.decoding import MESSAGE_BYTES, Decoder
from sarwater.scenes.life import show_life
from sarwater.scenes.verdict import refuse

PATIENCE_S = 20.0
PATIENCES = 4
"""For a trial that computes all the while, until its processor time ends it."""
_START_S = 10.0
"""Beyond the patience: loading the libraries, on a machine that is busy."""
_STOP_S = 2.0
_LIFE_S = 0.3
_SERVE = "from sarwater.scenes.trial_server import main; main()"
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GDAL_NUM_THREADS"), "1")
"""The server forks, so its libraries must not have threads."""


def open_on_trial(path: Path, name: str, limits: Limits) -> Decoder | None:
    """Let the scene at `path`, called `name`, be opened in a process of its own, which decodes it from then on; None
    where the trial proves nothing.

    Raises what that raises of `sarwater.errors`; SceneUnsafe where it needs more time or memory than the limits allow;
    SceneUnreadable where it ends the process or fails in another way.
    """
    if not _is_used:
        return None
    asked = {field: getattr(limits, field) for field in Limits.model_fields}
    where = os.fsencode(path.absolute()).decode("latin-1")  # bytes of any encoding, one character each
    request = {"path": where, "name": name, "limits": asked, "patience_s": PATIENCE_S}
    with contextlib.ExitStack() as stack:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close), stack.callback(theirs.close)
            memory = os.memfd_create("sarwater-pixels")
        except OSError:  # short of descriptors
            return None
        stack.callback(os.close, memory)
        answer = _ask(request, theirs.fileno(), memory)
        refuse(answer, name, limits, "opened")
        child = answer.get("child")
        if child is None:
            return None
        return Decoder(ours, os.dup(memory), name, limits, lambda: _ask({"ended": child}))


def warm() -> None:
    """Start the server now, and do not wait for it: for whoever has something else to do before the first scene."""
    with _lock, contextlib.suppress(OSError):
        _running()


def _ask(request: dict[str, Any], *descriptors: int) -> dict[str, Any]:
    """What the server says; {} where that proves nothing."""
    with _lock:
        try:
            if server := _running():
                return server.ask(request, descriptors)
        except (OSError, EOFError, TimeoutError, ValueError):
            _stop()
        except BaseException:  # its answer would be taken for that to the next question
            _stop()
            raise
    return {}


class _Server:
    """The process, with a socket to it. It ends when that closes: nothing survives this process."""

    def __init__(self) -> None:
        """Packages are found as they are here. Raises OSError."""
        path = [os.path.abspath(entry) for entry in sys.path]
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {_SERVE}", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for this process
            )
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        """Raises OSError, EOFError where it is gone, TimeoutError, ValueError."""
        socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
        poll = select.poll()  # `select` knows descriptors below 1024 only
        poll.register(self._channel, select.POLLIN)
        latest_s = time.monotonic() + PATIENCES * PATIENCE_S + _START_S
        while not poll.poll(_LIFE_S * 1000):
            if time.monotonic() > latest_s:
                raise TimeoutError
            show_life()
        content = self._channel.recv(MESSAGE_BYTES)
        if not content:
            raise EOFError
        answer: dict[str, Any] = json.loads(content)
        return answer

    def stop(self) -> None:
        self._process.kill()
        self.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)

    def close(self) -> None:
        self._channel.close()

    def disown(self) -> None:
        """In a fork of the process that started it, whose it is."""
        self.close()
        self._process.returncode = 0


_lock = threading.Lock()
"""One trial at a time."""
_server: _Server | None = None
_is_used = sys.platform == "linux"


def use_none() -> None:
    """In the server itself: what it opens is on trial already."""
    global _is_used
    _is_used = False


def _running() -> _Server | None:
    """Raises OSError."""
    global _server
    if not _is_used:
        return None
    if _server is not None and not _server.is_alive:
        _stop()
    if _server is None:
        _server = _Server()
    return _server


def _stop() -> None:
    global _server
    server, _server = _server, None
    if server is not None:
        server.stop()


def _begin_anew() -> None:
    """In a fork: the server is the parent's, and the lock may be held by a thread that was not copied."""
    global _lock, _server
    server, _server, _lock = _server, None, threading.Lock()
    if server is not None:
        server.disown()


atexit.register(_stop)
os.register_at_fork(after_in_child=_begin_anew)
