"""The GPU's primary context as a thread has it: the first device that is opened there enters it, the last one leaves.

PyCUDA keeps a stack of contexts for each thread, takes off whatever is on top, and aborts the process where a thread
ends with one on it. So a thread puts its context there once, for all of its devices, and takes it off in time.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Any

_here = threading.local()


class ThreadContext:
    """Of the thread that makes it, which is the only one that may use or leave it. `enter` makes it."""

    def __init__(self, drv: Any, device: Any) -> None:
        """Raises the driver's Error."""
        self.devices = 0
        self._drv = drv
        self._thread = threading.get_ident()
        self._dead = False
        self._context = device.retain_primary_context()
        self._context.push()
        # The thread's own variables go when it ends, before PyCUDA looks at its stack; at exit the interpreter calls.
        _here.guard = _Guard()
        self._end = weakref.finalize(_here.guard, self._take_off)

    def leave(self) -> None:
        """Once for each device: the last one gives the context back to the driver."""
        self.devices -= 1
        if not self.devices and self._thread == threading.get_ident():
            self._end()
            del _here.context, _here.guard

    def lose(self) -> None:
        """The driver has nothing but errors left, so that nothing more is asked of it: not by PyCUDA, either, which
        would print each refusal."""
        if not self._dead:
            self._dead = True
            # In a thread that is not the context's, PyCUDA declares it dead without a call to the driver.
            elsewhere = threading.Thread(target=self._context.detach)
            elsewhere.start()
            elsewhere.join()
            self._take_off()

    def _take_off(self) -> None:
        if self._thread != threading.get_ident():
            return
        if self._dead:
            self._drv.Context.get_current()  # takes dead ones off
        else:
            self._dead = True
            self._context.detach()  # from the top of PyCUDA's stack; not from the driver's
            ctypes.CDLL("libcuda.so.1").cuCtxSetCurrent(None)


class _Guard:
    """Lives as long as its thread."""


def enter(drv: Any, device: Any) -> ThreadContext:
    """The primary context of `device`, entered by this thread. Raises the driver's Error."""
    context: ThreadContext | None = getattr(_here, "context", None)
    if context is None:
        context = _here.context = ThreadContext(drv, device)
    context.devices += 1
    return context
