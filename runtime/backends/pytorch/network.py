"""A graph of PyTorch on a GPU: in the memory and the streams of a Device, replayed as CUDA graphs; and on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.backends.gpu.device import Device, Stream
from sarwater.dependencies import require
from sarwater.errors import DeviceLost, DeviceOutOfMemory, DeviceUnavailable

if TYPE_CHECKING:
    from torch import Tensor

Float32 = npt.NDArray[np.float32]
Replay = Callable[[Stream], None]

log = logging.getLogger("sarwater.gpu")


class Cuda(Protocol):
    """PyTorch's side of a GPU on which a Device allocates and orders."""

    def tensor(self, address: int, shape: tuple[int, ...]) -> Tensor:
        """Device memory as float32."""

    def run(self, work: Callable[[], None], stream: Stream) -> None:
        """Put the work into the stream."""

    def recorded(self, work: Callable[[], None], stream: Stream) -> Replay:
        """The work as a graph, to be put into a stream by one call."""

    def forget(self) -> None:
        """Give back what PyTorch keeps for work that will not come again."""


class TorchNetwork:
    """A BatchNetwork: `graph` is (n, C, T, T) float32 -> (n, 1, T, T) float32, on the device.

    Every batch size is run and recorded before work. Raises DeviceUnavailable where not even one tile has room.
    """

    input: int
    output: int

    def __init__(
        self, device: Device, cuda: Cuda, graph: Callable[[Tensor], Tensor], channels: int, tile_px: int, batch: int
    ) -> None:
        self._device, self._cuda, self._graph = device, cuda, graph
        self._tile_shape = (channels, tile_px, tile_px)
        self._replays: dict[int, Replay] = {}
        try:
            self._use_most(batch)
        except DeviceOutOfMemory as error:
            raise DeviceUnavailable(
                f"too little GPU memory for one tile of {tile_px} px; close other programs on the GPU"
            ) from error

    def enqueue(self, count: int, stream: Stream) -> None:
        with _told():
            self._replays[count](stream)

    def halve(self) -> None:
        """Raises DeviceOutOfMemory at a batch of one, which stays; DeviceLost where even that has no room any more."""
        smaller = self.batch // 2
        try:
            self._use_most(max(1, smaller))
        except DeviceOutOfMemory as error:
            raise DeviceLost(f"no GPU memory is left for one tile ({error}); start again") from error
        if not smaller:
            raise DeviceOutOfMemory(
                "too little GPU memory for this scene, even one tile at a time; close other programs on the GPU"
            )
        log.warning("GPU memory is short: %d tiles at a time from now on", self.batch)

    def close(self) -> None:
        self._device.wait_for_all()
        self._replays.clear()
        self._cuda.forget()

    def _use_most(self, batch: int) -> None:
        """The largest of batch, batch / 2, ... 1 that has room. Raises DeviceOutOfMemory."""
        while True:
            try:
                return self._use(batch)
            except DeviceOutOfMemory:
                if batch == 1:
                    raise
                batch //= 2

    def _use(self, batch: int) -> None:
        """Memory and records for a batch, and nothing of another's. Raises DeviceOutOfMemory."""
        self.close()
        for role in ("network input", "network output"):
            self._device.free(role)
        channels, height, width = self._tile_shape
        self.input = self._device.memory("network input", batch * channels * height * width * 4)
        self.output = self._device.memory("network output", batch * height * width * 4)
        tiles = self._cuda.tensor(self.input, (batch, *self._tile_shape))
        answers = self._cuda.tensor(self.output, (batch, 1, height, width))
        stream = self._device.compute
        self._device.fill(self.input, 0, batch * channels * height * width * 4, stream)
        self.batch = batch
        with _told():
            for count in range(batch, 0, -1):

                def work(count: int = count) -> None:
                    answers[:count].copy_(self._graph(tiles[:count]))

                self._cuda.run(work, stream)  # kernels are chosen and loaded
                self._device.wait_for_all()
                self._replays[count] = self._cuda.recorded(work, stream)
        self._device.wait_for_all()


class TorchCuda:
    """The first GPU through `torch.cuda`, in the primary context that CudaDevice uses, too.

    Raises DependencyMissing without torch, DeviceUnavailable where torch was built without CUDA or sees no GPU.
    """

    def __init__(self) -> None:
        self._torch = torch = require("torch", "running a model with PyTorch", "`pip install 'sarwater[torch]'`")
        if not torch.cuda.is_available():
            raise DeviceUnavailable(
                f"there is an NVIDIA GPU, but PyTorch {torch.__version__} cannot use it; install the build for this "
                "driver's CUDA (https://pytorch.org/get-started/locally), or hide the GPU with CUDA_VISIBLE_DEVICES= "
                "to run PyTorch on the CPU"
            )
        torch.backends.cudnn.benchmark = True  # all shapes are known, and run once before work
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32
        self._pool = torch.cuda.graph_pool_handle()

    def tensor(self, address: int, shape: tuple[int, ...]) -> Tensor:
        tensor: Tensor = self._torch.as_tensor(_Memory(address, shape), device="cuda")
        return tensor

    def run(self, work: Callable[[], None], stream: Stream) -> None:
        with self._torch.cuda.stream(self._torch.cuda.ExternalStream(stream.handle)):
            work()

    def recorded(self, work: Callable[[], None], stream: Stream) -> Replay:
        cuda = self._torch.cuda
        graph = cuda.CUDAGraph()
        # One pool for all: they never run side by side, and each leaves its answer in memory of its own.
        with cuda.graph(
            graph, pool=self._pool, stream=cuda.ExternalStream(stream.handle), capture_error_mode="thread_local"
        ):
            work()

        def replay(stream: Stream) -> None:
            with cuda.stream(cuda.ExternalStream(stream.handle)):
                graph.replay()

        return replay

    def forget(self) -> None:
        self._pool = self._torch.cuda.graph_pool_handle()
        self._torch.cuda.empty_cache()


class _Memory:
    """Somebody else's device memory, as PyTorch takes it (the CUDA Array Interface, version 3)."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}


class HostNetwork:
    """The graph on the CPU, a tile at a time: a TileNetwork."""

    depth = 1

    def __init__(self, graph: Callable[[Tensor], Tensor], channels: int, tile_px: int) -> None:
        self._torch = require("torch", "running a model with PyTorch")
        self._graph = graph
        self._tile = np.zeros((channels, tile_px, tile_px), np.float32)

    def input(self, slot: int) -> Float32:
        return self._tile

    def start(self, slot: int) -> None:
        """The work is done when the result is asked for."""

    def result(self, slot: int) -> Float32:
        answer: Float32 = self._graph(self._torch.from_numpy(self._tile[None]))[0, 0].numpy()
        return answer


@contextmanager
def _told() -> Iterator[None]:
    """PyTorch's errors as ours."""
    torch: Any = require("torch", "running a model with PyTorch")
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"PyTorch: {_first_line(error)}") from error
    except RuntimeError as error:
        raise DeviceLost(
            f"PyTorch: {_first_line(error)}; this process cannot use the GPU any more: start again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
