"""A scene is opened on trial first: in a child process, under a budget that the operating system enforces.

Headers are decoded by large libraries (libtiff, HDF5, PROJ), which a hostile file can send into hours of work, into
more memory than there is, or into a segmentation fault. In the child that costs the file alone, in a one-shot command
as in the daemon's worker. The child is a fork: it has everything imported, and costs a few hundredths of a second.

    processor    RLIMIT_CPU    `max_open_s`
    memory       RLIMIT_AS     `max_open_bytes` beyond what this process has
    core dumps   RLIMIT_CORE   none

A child that waits without computing (a disk that spins up; a lock that another thread held in the moment of the fork)
proves nothing against the file: after `_PATIENCE_S` it is let go, and the scene is opened the plain way. So it is where
processes do not fork, or not safely: everywhere but on Linux. Source: getrlimit(2), fork(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import math
import os
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sarwater import errors
from sarwater.errors import SarwaterError, SceneUnreadable, SceneUnsafe
from sarwater.request import Limits
from sarwater.shown import shown

_PATIENCE_S = 20.0
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LONGEST_BUG = 300


def open_on_trial(name: str, limits: Limits, look: Callable[[], object]) -> None:
    """Run `look`, which opens the scene called `name` and closes nothing, in a child process.

    Raises what it raises of `sarwater.errors`; SceneUnsafe where it needs more time or memory than the limits allow;
    SceneUnreadable where it ends the process or fails in another way.
    """
    if sys.platform != "linux":
        return
    answer, signal_number = _in_child(limits, look)
    if kind := answer.get("error"):
        raise getattr(errors, kind)(answer["message"])
    if answer.get("memory") or signal_number == signal.SIGKILL:
        raise SceneUnsafe(
            f"{name}: needs more than {limits.max_open_bytes:,} bytes of memory to be opened; it is damaged, or "
            "hostile; raise the limit with --max-open-bytes if that is right"
        )
    if signal_number == signal.SIGXCPU:
        raise SceneUnsafe(
            f"{name}: takes more than {limits.max_open_s:g} s to be opened; it is damaged, or hostile; raise the limit "
            "with --max-open-s if that is right"
        )
    if signal_number:
        raise SceneUnreadable(
            f"{name}: the library that decodes it crashed ({signal.Signals(signal_number).name}); the file is damaged: "
            "send it again"
        )
    if why := answer.get("bug"):
        raise SceneUnreadable(
            f"{name}: cannot be made sense of ({why}); the file is damaged: send it again; if it is sound, report it"
        )


def _in_child(limits: Limits, look: Callable[[], object]) -> tuple[dict[str, Any], int]:
    """(what it answered, the signal that ended it or 0)."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: see above
        child = os.fork()
    if child == 0:
        try:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                _be_quiet()
                _limit(limits)
                os.write(theirs, json.dumps(_answer(look)).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    answer = None
    try:
        answer = _heard(ours)
    finally:
        os.close(ours)
        if answer is None:  # not in time, or this process is interrupted
            os.kill(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
    if answer is None:
        return {}, signal.SIGXCPU if used.ru_utime + used.ru_stime > limits.max_open_s / 4 else 0
    return answer, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _be_quiet() -> None:
    """What libraries print about a damaged file is no output of ours; nor is their crash a report of one."""
    gc.disable()
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)


def _limit(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    seconds = math.ceil(limits.max_open_s)
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, pages * resource.getpagesize() + limits.max_open_bytes),
    ):
        soft, hard = resource.getrlimit(kind)
        most = min([most, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
        resource.setrlimit(kind, (most, hard))


def _answer(look: Callable[[], object]) -> dict[str, Any]:
    try:
        look()
    except SarwaterError as error:
        kind = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return {"error": kind, "message": str(error)}
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            return {}  # of the disk: the scene is opened the plain way, and meets it again
        return {"bug": shown(f"{type(error).__name__}: {error}")[:_LONGEST_BUG]}
    return {}


def _heard(pipe: int) -> dict[str, Any] | None:
    """What the child writes until it ends; None where it does not end in time."""
    content, deadline_s = b"", time.monotonic() + _PATIENCE_S
    while True:
        if not select.select([pipe], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        content += part
    answer: dict[str, Any] = json.loads(content) if content else {}
    return answer
