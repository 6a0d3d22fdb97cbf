"""The GPU through PyCUDA: a Device of one context, three streams, and scene.cu. The only file that imports pycuda.

The context is the GPU's primary one (TensorRT uses the same), entered by the thread that opens the device, which is the
only thread that may use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.gpu.device import Array, Event, Stream
from runtime.backends.gpu.kernels.compile import kernels_for
from runtime.backends.gpu.thread_context import enter
from sarwater.dependencies import require
from sarwater.errors import DeviceLost, DeviceOutOfMemory, DeviceUnavailable, PinnedOutOfMemory
from sarwater.gpu import require_gpu

PYCUDA_INSTALL = "`pip install 'sarwater[cuda]'`, which builds against the CUDA toolkit"
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the default stream, which libraries use without being asked."""
BLOCK = (128, 1, 1)
"""Along x alone, as the kernels of scene.cu have it: what has no thread's number would be done twice."""
_MOST_BLOCKS = 65535
"""Of a grid's second and third dimension on every GPU; the kernels stride over what is left."""


class CudaDevice:
    """The first GPU that the driver shows (`CUDA_VISIBLE_DEVICES` counts).

    Raises DeviceUnavailable without a driver or GPU or for a driver too old, DependencyMissing without PyCUDA or a
    compiler for the kernels.
    """

    def __init__(self) -> None:
        self._drv = drv = _pycuda_driver()
        self._functions: dict[str, Any] = {}
        self._memory: dict[str, tuple[Any, int]] = {}
        self._pinned: dict[str, Array] = {}
        try:
            drv.init()
            device = drv.Device(0)
            self._context = enter(drv, device)
        except drv.Error as error:
            raise _cannot_open(error) from error
        self._open = True
        try:
            self.name = str(device.name())
            self.compute_capability = ".".join(map(str, device.compute_capability()))
            version = int(drv.get_driver_version())
            kernels = kernels_for(self.compute_capability, (version // 1000, version % 1000 // 10))
            self._module = self._loaded(kernels)
            self.copy_in, self.compute, self.copy_out = (drv.Stream(_NON_BLOCKING) for _ in range(3))
        except BaseException as error:
            self.close()
            if isinstance(error, drv.Error):
                raise _cannot_open(error) from error
            raise

    def free_bytes(self) -> int:
        return int(self._call(self._drv.mem_get_info)[0])

    def memory(self, role: str, size_bytes: int) -> int:
        allocation, has_bytes = self._memory.get(role, (None, 0))
        if has_bytes < size_bytes:
            self.free(role)
            allocation = self._allocate(
                DeviceOutOfMemory,
                f"{self.name}: {size_bytes / 2**20:.1f} MiB of GPU memory are not free; close other programs on "
                "the GPU, or use an engine with smaller tiles",
                self._drv.mem_alloc,
                size_bytes,
            )
            self._memory[role] = allocation, size_bytes
        return int(allocation)

    def free(self, role: str) -> None:
        if role in self._memory:
            self.wait_for_all()  # it may be in use
            allocation, _ = self._memory.pop(role)
            self._call(allocation.free)

    def pinned(self, role: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array = self._pinned.get(role)
        if array is None or array.nbytes < size_bytes:
            self.wait_for_all()
            self._pinned.pop(role, None)
            del array
            array = self._allocate(
                PinnedOutOfMemory,
                f"{self.name}: {size_bytes / 2**20:.1f} MiB of this machine's memory cannot be page-locked; close "
                "other programs on it",
                self._drv.pagelocked_empty,
                (max(1, size_bytes),),
                np.uint8,
            )
            self._pinned[role] = array
        return array[:size_bytes].view(dtype).reshape(shape)

    def release(self, keep: str | None = None) -> None:
        self.wait_for_all()
        for role in [role for role in self._memory if keep is None or not role.startswith(keep)]:
            allocation, _ = self._memory.pop(role)
            self._call(allocation.free)
        self._pinned.clear()

    def upload(self, target: int, source: Array, stream: Stream) -> None:
        self._call(self._drv.memcpy_htod_async, target, source, stream)

    def download(self, target: Array, source: int, stream: Stream) -> None:
        self._call(self._drv.memcpy_dtoh_async, target, source, stream)

    def fill(self, target: int, value: int, size_bytes: int, stream: Stream) -> None:
        self._call(self._drv.memset_d8_async, target, value, size_bytes, stream)

    def launch(self, kernel: str, pixels: tuple[int, int, int], arguments: Sequence[Any], stream: Stream) -> None:
        function = self._functions.get(kernel)
        if function is None:
            function = self._functions[kernel] = self._call(self._module.get_function, kernel)
        blocks = [-(-count // size) for count, size in zip(pixels, BLOCK, strict=True)]
        grid = (blocks[0], *(min(count, _MOST_BLOCKS) for count in blocks[1:]))
        self._call(function, *arguments, block=BLOCK, grid=grid, stream=stream)

    def record(self, stream: Stream) -> Event:
        event = self._call(self._drv.Event, self._drv.event_flags.BLOCKING_SYNC)
        return self._call(event.record, stream)

    def order(self, stream: Stream, after: Event) -> None:
        self._call(stream.wait_for_event, after)

    def wait(self, event: Event) -> None:
        self._call(event.synchronize)

    def wait_for_all(self) -> None:
        self._call(self._drv.Context.synchronize)

    def seconds(self, start: Event, end: Event) -> float:
        return float(self._call(start.time_till, end)) / 1000

    def close(self) -> None:
        """Give everything back; a GPU that was lost takes it with the process."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(DeviceLost):
            self.release()
        self._memory.clear()
        self._functions.clear()
        for name in ("_module", "copy_in", "compute", "copy_out"):
            self.__dict__.pop(name, None)
        self._context.leave()

    def _loaded(self, kernels: bytes) -> Any:
        try:
            return self._drv.module_from_buffer(kernels)
        except self._drv.Error as error:
            raise DeviceUnavailable(
                f"{self.name}: the driver does not load kernels compiled for it ({error}); update the driver"
            ) from error

    def _allocate(
        self, short: type[DeviceOutOfMemory], message: str, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        try:
            return function(*arguments)
        except self._drv.MemoryError as error:
            raise short(message) from error
        except self._drv.Error as error:
            raise self._lost(error) from error

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except self._drv.Error as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> DeviceLost:
        self._context.lose()
        return DeviceLost(
            f"{self.name}: {error}; this process cannot use the GPU any more: start again, and look into the kernel "
            "log (`dmesg | grep -i -e xid -e nvgpu`) if it happens twice"
        )


def _cannot_open(error: Exception) -> DeviceUnavailable:
    return DeviceUnavailable(f"the GPU cannot be opened ({error}); check `nvidia-smi` and the driver")


def _pycuda_driver() -> Any:
    """PyCUDA's driver module. It has no types, so from here on it is Any."""
    require_gpu()
    return require("pycuda.driver", "access to the GPU's memory", PYCUDA_INSTALL)
