"""The server of trial.py: it forks a child for each scene, which opens it, says what became of that, and decodes it.

    processor    RLIMIT_CPU    `max_open_s`, and so much again for each part that is decoded (decoding_child.py)
    memory       RLIMIT_AS     `max_open_bytes` beyond what this process has
    core dumps   RLIMIT_CORE   none

It has one thread, so that a fork is a whole process, and has everything imported, so that a child costs little. One
request and one answer is a message of JSON. It ends when its requests end, or the process that started it does: that is
looked at from time to time, for PR_SET_PDEATHSIG would also act when the one thread ends that started it.
Source: getrlimit(2), fork(2), prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sarwater import errors
from sarwater.errors import SarwaterError
from sarwater.request import Limits
from sarwater.scenes import trial
from sarwater.scenes.decoding import MESSAGE_BYTES, rasters_through
from sarwater.scenes.decoding_child import serve_pixels
from sarwater.scratch import scratch_folder
from sarwater.shown import shown

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LOOK_S = 1.0
_REAP_S = 5.0
_LONGEST_BUG, _LONGEST_ERROR = 300, 8000

Look = Callable[[Path, str, Limits], Sequence[Any]]
"""Opens a scene; the GDAL datasets of it, in the order in which they were opened."""


def main() -> None:
    """`python -c ... PARENT`, with a socket as the standard input."""
    trial.use_none()
    with contextlib.suppress(OSError, RuntimeError, SarwaterError):  # it is quicker afterwards, and no more than that
        _rehearse()
    serve(_open)


def _open(path: Path, name: str, limits: Limits) -> Sequence[Any]:
    from sarwater.scenes.readers import open_here

    rasters: list[Any] = []

    def keep(dataset: Any) -> Any:
        rasters.append(dataset)
        return dataset

    with rasters_through(keep):
        _ = open_here(path, limits, name).pixel_m
    return rasters


def _rehearse() -> None:
    """Open a small scene: what libraries do at their first use, every child would do again."""
    from sarwater.scenes import raster
    from sarwater.scenes.readers import open_here

    raster.load()
    with scratch_folder() as folder:
        path = folder / "scene.tif"
        dataset = raster.gdal.GetDriverByName("GTiff").Create(str(path), 64, 64, 1, raster.gdal.GDT_UInt16)
        dataset.SetProjection("EPSG:32652")
        dataset.SetGeoTransform((300_000, 10, 0, 4_000_000, 0, -10))
        dataset.GetRasterBand(1).WriteRaster(0, 0, 64, 64, bytes(range(1, 129)) * 64)
        raster.close_dataset(dataset)
        with open_here(path) as scene:
            _ = scene.pixel_m


def serve(look: Look) -> None:
    """`look` opens a scene and closes nothing."""
    trial.use_none()
    server = _Server(int(sys.argv[1]), look)
    gc.freeze()
    while request := server.next_request():
        server.answer(*request)


class _Server:
    def __init__(self, parent: int, look: Look) -> None:
        self._parent, self._look = parent, look
        self._channel = socket.socket(fileno=os.dup(0))
        self._children: dict[int, int | None] = {}
        """Those that opened a scene, and how they ended, once they have: a status of wait(2)."""
        _be_quiet()
        self._libc = ctypes.CDLL(None)

    def next_request(self) -> tuple[dict[str, Any], list[int]] | None:
        """With the descriptors that came with it; None where there are no more."""
        if not self._wait(self._channel.fileno(), None):
            return None
        content, descriptors, *_ = socket.recv_fds(self._channel, MESSAGE_BYTES, 2)
        return (json.loads(content), descriptors) if content else None

    def answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        self._reap()
        answer = self._end_of(request["ended"]) if "ended" in request else self._trial(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._channel.send(json.dumps(answer).encode())

    def _trial(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        limits = Limits(**request["limits"])
        ours, theirs = os.pipe()
        server = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == server:
                    os.close(ours)
                    self._channel.close()
                    self._be_child(request, limits, theirs, *descriptors)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(theirs)
        answer = self._heard(ours, child, request["patience_s"])
        os.close(ours)
        if answer and answer.get("open"):
            self._children[child] = None
            return {"child": child}
        if answer is None:
            os.kill(child, signal.SIGKILL)
        status, used_s = _ended(child)
        if answer is None:  # waiting proves nothing; computing all the while does, on a busy machine
            answer = {"signal": signal.SIGXCPU} if used_s > limits.max_open_s / 4 else {}
        elif os.WIFSIGNALED(status):
            answer["signal"] = os.WTERMSIG(status)
        return answer

    def _be_child(self, request: dict[str, Any], limits: Limits, answers: int, channel: int, memory: int) -> None:
        path = Path(os.fsdecode(request["path"].encode("latin-1")))
        _limit(limits.max_open_s, limits.max_open_bytes)
        answer, rasters = _answer(self._look, path, request["name"], limits)
        os.write(answers, json.dumps(answer).encode())
        os.close(answers)
        if answer.get("open"):
            serve_pixels(channel, memory, rasters, limits, _limit)

    def _reap(self) -> None:
        for child in [child for child, status in self._children.items() if status is None]:
            found, status = os.waitpid(child, os.WNOHANG)
            if found and status:
                self._children[child] = status
            elif found:
                del self._children[child]

    def _end_of(self, child: int) -> dict[str, Any]:
        """Of one that opened a scene, and is gone without an answer."""
        status = self._children.pop(child, 0)
        status = _ended(child)[0] if status is None else status
        return {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"bug": "it ended"} if status else {}

    def _heard(self, pipe: int, child: int, patience_s: float) -> dict[str, Any] | None:
        """What the child writes until it ends; None where it does not end in time. One that computes gets more of that:
        on a busy machine it may be long until it has had its share of the processor."""
        content, deadline_s = b"", time.monotonic() + patience_s
        latest_s = time.monotonic() + trial.PATIENCES * patience_s
        while True:
            if not self._wait(pipe, deadline_s):
                if not _computes(child) or deadline_s >= latest_s:
                    return None
                deadline_s += patience_s
                continue
            part = os.read(pipe, 1 << 16)
            if not part:
                break
            content += part
        answer: dict[str, Any] = json.loads(content) if content else {}
        return answer

    def _wait(self, pipe: int, deadline_s: float | None) -> bool:
        """Whether there is something to read in time. Ends this process, and so the child, when the parent is gone."""
        poll = select.poll()
        poll.register(self._channel, 0)  # a hang-up is always told
        poll.register(pipe, select.POLLIN)
        while os.getppid() == self._parent and (deadline_s is None or time.monotonic() < deadline_s):
            left_s = _LOOK_S if deadline_s is None else min(_LOOK_S, max(0.0, deadline_s - time.monotonic()))
            found = dict(poll.poll(left_s * 1000))
            if pipe in found:
                return True
            if found:
                sys.exit()
        if os.getppid() != self._parent:
            sys.exit()
        return False


def _be_quiet() -> None:
    """What libraries print about a damaged file is no output of ours; nor is their crash a report of one."""
    gc.disable()
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)


_ALLOWED = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_CORE, resource.RLIMIT_CPU, resource.RLIMIT_AS)}
"""To this process, which its children may not exceed."""


def _limit(seconds: float, size_bytes: int) -> None:
    """Allow this process so much processor time and memory from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = resource.getrusage(resource.RUSAGE_SELF)
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds)),
        (resource.RLIMIT_AS, pages * resource.getpagesize() + size_bytes),
    ):
        soft, hard = _ALLOWED[kind]
        most = min([most, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
        resource.setrlimit(kind, (most, hard))


def _answer(look: Look, path: Path, name: str, limits: Limits) -> tuple[dict[str, Any], Sequence[Any]]:
    """What became of it, and the rasters of a scene that is open."""
    try:
        return {"open": True}, look(path, name, limits)
    except SarwaterError as error:
        kind = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return {"error": kind, "message": str(error)[:_LONGEST_ERROR]}, ()
    except MemoryError:
        return {"memory": True}, ()
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            return {}, ()  # of the disk: the scene is opened the plain way, and meets it again
        return {"bug": shown(f"{type(error).__name__}: {error}")[:_LONGEST_BUG]}, ()


def _computes(child: int) -> bool:
    """Rather than wait for something."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{child}/stat").read_bytes().rpartition(b") ")[2].startswith(b"R")
    return False


def _ended(child: int) -> tuple[int, float]:
    """(status, processor time in s). A child that cannot even be killed waits for a disk: this process then ends, which
    proves nothing."""
    deadline_s = time.monotonic() + _REAP_S
    while time.monotonic() < deadline_s:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            return status, used.ru_utime + used.ru_stime
        time.sleep(0.001)
    sys.exit()
