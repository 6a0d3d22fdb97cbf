"""CUDA graphs: hundreds of launches become one. PyCUDA does not know them, so this calls the driver (cuda.h) itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from sarwater.errors import DeviceLost

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile is neither captured nor forbidden."""


class CaptureRefused(Exception):
    """The work cannot be recorded; it runs without a graph as before."""


class CudaGraph:
    """What `work` puts into the stream, recorded once, to be put there again by `launch`.

    Raises CaptureRefused, with the stream as it was. Addresses are recorded, too: a graph is good as long as they are.
    """

    def __init__(self, stream_handle: int, work: Callable[[], bool]) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._graph = ctypes.c_void_p()
        stream = ctypes.c_void_p(stream_handle)
        self._capture("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        recorded = False
        graph = ctypes.c_void_p()
        try:
            recorded = work()
        finally:
            # Even after a failure: it is what ends the capture.
            code = self._driver.cuStreamEndCapture(stream, ctypes.byref(graph))
        if code or not recorded or not graph:
            if graph:
                self._driver.cuGraphDestroy(graph)
            raise CaptureRefused(self._name(code) if code else "the network cannot be recorded")
        try:
            self._capture("cuGraphInstantiateWithFlags", ctypes.byref(self._graph), graph, ctypes.c_ulonglong(0))
        finally:
            self._driver.cuGraphDestroy(graph)

    def launch(self, stream_handle: int) -> None:
        """Raises DeviceLost."""
        if code := self._driver.cuGraphLaunch(self._graph, ctypes.c_void_p(stream_handle)):
            raise DeviceLost(f"the GPU does not take a graph ({self._name(code)}); start again")

    def close(self) -> None:
        """Not while it is at work."""
        if self._graph:
            self._driver.cuGraphExecDestroy(self._graph)
            self._graph = ctypes.c_void_p()

    def _capture(self, function: str, *arguments: Any) -> None:
        if code := getattr(self._driver, function)(*arguments):
            raise CaptureRefused(f"{function}: {self._name(code)}")

    def _name(self, code: int) -> str:
        name = ctypes.c_char_p()
        self._driver.cuGetErrorName(code, ctypes.byref(name))
        return f"{(name.value or b'unknown').decode()}, {code}"
