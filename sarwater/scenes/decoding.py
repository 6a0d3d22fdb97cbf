"""Pixels are decoded in the process that opened the scene on trial, under the same budget; they come by shared memory.

    this process                              the child of trial_server.py that opened the scene
    raster, band, window                 ──▶  decodes into the shared memory (decoding_child.py)
    copies, or raises                    ◀──  done, or what went wrong

So a bomb, an endless loop or a crash in libtiff or HDF5 costs one scene, whoever reads it. Every raster that a reader
opens passes through `raster_of`: both processes open the same ones, in the same order, and that is how they name them.
Where the child is gone for no fault of the file (somebody killed the server), this process decodes by itself.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.request import Limits
from sarwater.scenes.raster import dtype_of
from sarwater.scenes.verdict import refuse

MESSAGE_BYTES = 1 << 16
PART_BYTES = 16 << 20
"""Decoded and copied at a time, of all bands together, or one block: `max_open_s` is enough for that."""

Wrap = Callable[[Any], Any]
_wrap: ContextVar[Wrap | None] = ContextVar("wrap", default=None)


@contextlib.contextmanager
def rasters_through(wrap: Wrap) -> Iterator[None]:
    """While a scene is opened: what becomes of each GDAL dataset of it."""
    token = _wrap.set(wrap)
    try:
        yield
    finally:
        _wrap.reset(token)


def raster_of(dataset: Any) -> Any:
    """A GDAL dataset as whoever opens this scene wants it."""
    wrap = _wrap.get()
    return dataset if wrap is None else wrap(dataset)


class Decoder:
    """The child that has one scene open. Threads may share it; it ends when nobody has it any more."""

    def __init__(
        self, channel: socket.socket, memory: int, name: str, limits: Limits, how_ended: Callable[[], dict[str, Any]]
    ) -> None:
        """Takes both over. `memory` is the descriptor of what is shared; `how_ended` gives the answer for a child that
        is gone, {} where that is no fault of the file."""
        self._channel, self._memory = channel.detach(), memory
        self._name, self._limits, self._how_ended = name, limits, how_ended
        self._process, self._lock, self._rasters = os.getpid(), threading.Lock(), 0
        self._let_go = weakref.finalize(self, _close, self._channel, self._memory)

    def wrap(self, dataset: Any) -> Raster:
        self._rasters += 1
        return Raster(dataset, self, self._rasters - 1)

    def decode(self, request: dict[str, Any], out: npt.NDArray[Any]) -> bool:
        """Into `out` (H, W); False where this process has to do it. Raises RuntimeError as GDAL does, and as
        `refuse`."""
        with self._lock:
            if not self._let_go.alive or os.getpid() != self._process:  # in a fork, the other one has it
                return False
            try:
                answer = self._ask(request, out)
            except (OSError, EOFError):
                self._let_go()
                answer = self._how_ended()
                if not answer:
                    return False
            except BaseException:  # its answer would be taken for that to the next question
                self._let_go()
                raise
        if text := answer.get("gdal"):
            raise RuntimeError(text)
        refuse(answer, self._name, self._limits, "decoded")
        return True

    def _ask(self, request: dict[str, Any], out: npt.NDArray[Any]) -> dict[str, Any]:
        if os.fstat(self._memory).st_size < out.nbytes:
            os.ftruncate(self._memory, out.nbytes)
        os.write(self._channel, json.dumps(request).encode())
        content = os.read(self._channel, MESSAGE_BYTES)
        if not content:
            raise EOFError
        answer: dict[str, Any] = json.loads(content)
        if answer.get("done"):
            shared = mmap.mmap(self._memory, out.nbytes, prot=mmap.PROT_READ)
            out[...] = np.frombuffer(shared, out.dtype, out.size).reshape(out.shape)
        return answer


class Raster:
    """A GDAL dataset, open here for all that its header says; its pixels come from the decoder."""

    def __init__(self, dataset: Any, decoder: Decoder, number: int) -> None:
        self._dataset, self._decoder, self._number = dataset, decoder, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def GetRasterBand(self, number: int) -> RasterBand:
        return RasterBand(self, self._dataset.GetRasterBand(number), number)

    def decode(self, request: dict[str, Any], out: npt.NDArray[Any]) -> bool:
        return self._decoder.decode({"raster": self._number, **request}, out)


class RasterBand:
    """A GDAL band, or the mask of one. It keeps its dataset: GDAL's ends the process without."""

    def __init__(self, raster: Raster, band: Any, number: int, is_mask: bool = False) -> None:
        self._raster, self._band, self._number, self._is_mask = raster, band, number, is_mask

    def __getattr__(self, name: str) -> Any:
        return getattr(self._band, name)

    def GetMaskBand(self) -> RasterBand:
        return RasterBand(self._raster, self._band.GetMaskBand(), self._number, is_mask=True)

    def ReadAsArray(
        self, x_px: int, y_px: int, width_px: int, height_px: int, buf_obj: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """(H, W), into `buf_obj` where that is given. Raises RuntimeError, SceneUnsafe, SceneUnreadable."""
        dtype = dtype_of(self._band)
        out = np.empty((height_px, width_px), dtype) if buf_obj is None else buf_obj
        block_columns, block_rows = self._band.GetBlockSize()
        pixel_bytes = dtype.itemsize * self._raster.RasterCount  # a block may hold every band
        rows = max(PART_BYTES // (width_px * pixel_bytes) // block_rows, 1) * block_rows
        columns = max(PART_BYTES // (rows * pixel_bytes) // block_columns, 1) * block_columns
        for top, count in _stretches(y_px, height_px, rows):
            for left, wide in _stretches(x_px, width_px, columns):
                part = out[top - y_px : top - y_px + count, left - x_px : left - x_px + wide]
                self._read_part((left, top, wide, count), part, dtype)
        return out

    def _read_part(self, window: tuple[int, int, int, int], out: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
        stored = out if out.dtype == dtype else np.empty(out.shape, dtype)
        request = {"band": self._number, "mask": self._is_mask, "window": window}
        if not self._raster.decode(request, stored):
            self._band.ReadAsArray(*window, buf_obj=stored)
        if stored is not out:
            out[...] = stored


def _stretches(start: int, length: int, step: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the parts of a stretch that begin at multiples of `step`, or a block would be decoded twice."""
    first, end = start, start + length
    while first < end:
        count = min(step - first % step, end - first)
        yield first, count
        first += count


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
