"""A Device that is the host: memory is numpy's, kernels are compiled for the processor, and all happens at once.

It is strict where CUDA is silent: reading or writing outside what was allocated fails, and every allocation starts as
noise.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sarwater.errors import DeviceOutOfMemory
from tests.support.host_kernels import HostKernels

GUARD_BYTES = 256


class HostDevice:
    copy_in, compute, copy_out = "copy-in", "compute", "copy-out"

    def __init__(self, kernels: HostKernels, limit_bytes: int = 1 << 40) -> None:
        self.kernels = kernels
        self.limit_bytes = limit_bytes
        self.allocations = 0
        self.calls: list[tuple[str, str]] = []
        """What went into which stream, in order."""
        self._memory: dict[str, np.ndarray] = {}
        self._pinned: dict[str, np.ndarray] = {}
        self._ticks = 0

    def memory(self, role: str, size_bytes: int) -> int:
        found = self._memory.get(role)
        if found is None or found.nbytes < size_bytes + 2 * GUARD_BYTES:
            used = sum(array.nbytes for name, array in self._memory.items() if name != role)
            if used + size_bytes > self.limit_bytes:
                raise DeviceOutOfMemory(role)
            self.allocations += 1
            found = self._memory[role] = np.full(size_bytes + 2 * GUARD_BYTES, 0xA5, np.uint8)
        return int(found.ctypes.data) + GUARD_BYTES

    def pinned(self, role: str, shape: Sequence[int], dtype: Any) -> np.ndarray:
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        found = self._pinned.get(role)
        if found is None or found.nbytes < size_bytes:
            found = self._pinned[role] = np.full(size_bytes, 0xA5, np.uint8)
        return found[:size_bytes].view(dtype).reshape(shape)

    def free(self, role: str) -> None:
        self.check_guards()
        self._memory.pop(role, None)

    def release(self, keep: str | None = None) -> None:
        self.check_guards()
        self._memory = {role: array for role, array in self._memory.items() if keep and role.startswith(keep)}
        self._pinned.clear()

    def upload(self, target: int, source: np.ndarray, stream: str) -> None:
        assert source.flags.c_contiguous
        self._inside(target, source.nbytes)
        self.calls.append(("upload", stream))
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def download(self, target: np.ndarray, source: int, stream: str) -> None:
        assert target.flags.c_contiguous
        self._inside(source, target.nbytes)
        self.calls.append(("download", stream))
        ctypes.memmove(target.ctypes.data, source, target.nbytes)

    def fill(self, target: int, value: int, size_bytes: int, stream: str) -> None:
        self._inside(target, size_bytes)
        ctypes.memset(target, value, size_bytes)

    def launch(self, kernel: str, pixels: tuple[int, int, int], arguments: Sequence[Any], stream: str) -> None:
        assert all(count > 0 for count in pixels)
        self.calls.append((kernel, stream))
        self.kernels.launch(kernel, pixels, arguments)

    def record(self, stream: str) -> int:
        self._ticks += 1
        return self._ticks

    def order(self, stream: str, after: int) -> None:
        self.calls.append(("order", stream))

    def wait(self, event: int) -> None:
        """It happened when it was recorded."""

    def wait_for_all(self) -> None:
        """There is nothing to wait for."""

    def seconds(self, start: int, end: int) -> float:
        return float(end - start)

    def check_guards(self) -> None:
        for role, array in self._memory.items():
            assert (array[:GUARD_BYTES] == 0xA5).all(), role
            assert (array[-GUARD_BYTES:] == 0xA5).all(), role

    def array(self, address: int, shape: Sequence[int]) -> np.ndarray:
        """Device memory as float32."""
        size = int(np.prod(shape))
        self._inside(address, size * 4)
        return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (size,)).reshape(shape)

    def _inside(self, address: int, size_bytes: int) -> None:
        for array in self._memory.values():
            start = int(array.ctypes.data) + GUARD_BYTES
            if start <= address and address + size_bytes <= start + array.nbytes - 2 * GUARD_BYTES:
                return
        raise AssertionError(f"{size_bytes} bytes at {address} are not in one allocation")


class FormulaNetwork:
    """A BatchNetwork that is a function of one tile, (C, T, T) float32 -> (T, T) float32."""

    def __init__(
        self,
        device: HostDevice,
        formula: Callable[[np.ndarray], np.ndarray],
        channels: int,
        tile_px: int,
        batch: int,
    ) -> None:
        self.formula = formula
        self.counts: list[int] = []
        self._device = device
        self._shape = (channels, tile_px, tile_px)
        self._use(batch)

    def enqueue(self, count: int, stream: str) -> None:
        assert stream == self._device.compute
        assert 0 < count <= self.batch
        self.counts.append(count)
        tiles = self._device.array(self.input, (count, *self._shape))
        answers = self._device.array(self.output, (count, *self._shape[1:]))
        for tile, answer in zip(tiles, answers, strict=True):
            answer[...] = self.formula(tile)

    def halve(self) -> None:
        if self.batch == 1:
            raise DeviceOutOfMemory("the scene")
        for role in ("network input", "network output"):
            self._device.free(role)
        self._use(self.batch // 2)

    def _use(self, batch: int) -> None:
        self.batch = batch
        tile_bytes = 4 * self._shape[1] * self._shape[2]
        self.input = self._device.memory("network input", batch * self._shape[0] * tile_bytes)
        self.output = self._device.memory("network output", batch * tile_bytes)
