"""An engine file as a network on the device: the same calls for TensorRT 10.3 to 11.x, its lean runtime, and
TensorRT-RTX.

The three differ in two places only: which module is imported, and what an execution context is made with.
"""

from __future__ import annotations

import contextlib
import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.cuda_graph import CaptureRefused, CudaGraph
from runtime.backends.gpu.device import NETWORK_ROLES, Stream
from runtime.cache import keep, recall
from sarwater.errors import DeviceLost, DeviceOutOfMemory, DeviceUnavailable, ManifestInvalid
from sarwater.gpu import Gpu
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, Engine, ModelManifest
from sarwater.tensorrt_library import Library, is_for

if TYPE_CHECKING:
    import tensorrt

log = logging.getLogger("sarwater.gpu")


def check_engine(wanted: Engine, version_compatible: bool, library: Library, gpu: str, compute_capability: str) -> None:
    """Raises DeviceUnavailable for an engine of another version or another GPU, before a byte of it is deserialised."""
    built, here = (version.split(".")[:2] for version in (wanted.library_version, library.version))
    if built[0] != here[0] or (built != here and not version_compatible):
        raise DeviceUnavailable(
            f"the engine was built by {wanted.flavor} {wanted.library_version}, here is {library.name} "
            f"{library.version}; build it again on this machine (`sarwater build-engine`)"
        )
    library.check_serves(Gpu(gpu, compute_capability))
    fits = is_for(wanted.compute_capability, compute_capability)
    if wanted.flavor == "tensorrt":
        fits = fits and wanted.gpu_name == gpu
    if not fits:
        raise DeviceUnavailable(
            f"the engine is for {wanted.gpu_name} (compute capability {wanted.compute_capability}), here is {gpu} "
            f"({compute_capability}); build it again on this machine (`sarwater build-engine`)"
        )


class EngineNetwork:
    """A BatchNetwork of an engine whose file was verified. Holds memory for as many tiles as fit.

    `graphs`: replay each batch size as a CUDA graph. Raises ManifestInvalid where the engine is not what its manifest
    describes, DeviceUnavailable where it cannot be deserialised or has no room.
    """

    input: int
    output: int
    _engine: tensorrt.ICudaEngine
    _context: tensorrt.IExecutionContext

    def __init__(
        self,
        library: Library,
        plan: bytes,
        manifest: ModelManifest,
        device: CudaDevice,
        cache_name: str,
        graphs: bool = True,
    ) -> None:
        self._device = device
        self._library = library
        self._graphs: dict[int, CudaGraph] = {}
        self._graphs_wanted = graphs and not library.is_rtx
        self._ran: set[int] = set()
        """Batch sizes that ran in the memory of now: TensorRT wants that before one is recorded."""
        self._count = self._count_bytes = 0
        self._roles: list[str] = []
        self._tile_shape = (len(manifest.channels), manifest.tile_px, manifest.tile_px)
        self._messages = _messages(library.module)
        try:
            self._open(plan, manifest, cache_name, graphs)
        except BaseException:
            with contextlib.suppress(DeviceLost):
                self.close()
            raise

    def _open(self, plan: bytes, manifest: ModelManifest, cache_name: str, graphs: bool) -> None:
        library = self._library
        if TYPE_CHECKING:
            trt = tensorrt
        else:
            trt = library.module
        assert manifest.engine is not None
        runtime = self._runtime = trt.Runtime(self._messages)  # must outlive the engine
        self._engine = self._made(runtime.deserialize_cuda_engine(plan), "deserialise the engine")
        self._check_tensors(manifest.engine.max_batch)
        cache: Any = None
        if library.is_rtx:
            self._context, cache = self._rtx_context(cache_name, graphs)
        else:
            self._context = self._context_of(library.module)
        self.batch = self._fitting_batch(manifest.engine.max_batch)
        self._warm_up()
        if cache is not None:
            keep(cache_name, bytes(cache.serialize()))

    @property
    def has_graphs(self) -> bool:
        """Whether batches are replayed as graphs recorded here (TensorRT-RTX records its own)."""
        return bool(self._graphs)

    def enqueue(self, count: int, stream: Stream) -> None:
        """The second time that a batch size comes it is recorded, from then on replayed."""
        if graph := self._graphs.get(count):
            graph.launch(stream.handle)
            return
        self._set_count(count)
        refusal = ""
        if self._graphs_wanted and count in self._ran:
            try:
                self._graphs[count] = CudaGraph(stream.handle, lambda: self._execute(stream))
            except CaptureRefused as error:
                refusal = str(error)
            else:
                self._graphs[count].launch(stream.handle)
                return
        if not self._execute(stream):
            raise DeviceLost(f"{self._library.name} does not run the engine ({self._messages.text}); start again")
        self._ran.add(count)
        if refusal:  # and the GPU is there all the same
            self._graphs_wanted = False
            log.warning("no CUDA graphs for this engine (%s); it runs without, a little slower", refusal)

    def halve(self) -> None:
        smaller = self.batch // 2
        while smaller:
            with contextlib.suppress(DeviceOutOfMemory):
                self._use(smaller)
                log.warning("GPU memory is short: %d tiles at a time from now on", smaller)
                return
            smaller //= 2
        raise DeviceOutOfMemory(
            f"{self._device.name}: too little GPU memory for this scene, even one tile at a time; close other "
            "programs on the GPU, or use an engine with smaller tiles"
        )

    def close(self) -> None:
        """Context and engine go, whatever became of the GPU. Raises DeviceLost."""
        try:
            self._drop_graphs()
        finally:
            for name in ("_context", "_engine", "_runtime"):
                self.__dict__.pop(name, None)

    def _fitting_batch(self, most: int) -> int:
        """The largest of most, most / 2, ... 1 whose memory leaves as much again for scenes."""
        batch = most
        while True:
            free_bytes = self._device.free_bytes()
            try:
                if batch == 1 or self._bytes_for(batch) <= free_bytes // 2:
                    self._use(batch)
                    return batch
            except DeviceOutOfMemory as error:
                if batch == 1:
                    raise DeviceUnavailable(
                        f"{self._device.name}: {free_bytes / 2**20:.0f} MiB of GPU memory are free, too little for one "
                        f"tile of {self._tile_shape[1]} px; close other programs on the GPU, or build the engine with "
                        "a smaller --tile-px"
                    ) from error
            batch //= 2

    def _use(self, batch: int) -> None:
        """Memory for a batch in place of what there is, which stays where there is too little.

        Raises DeviceOutOfMemory.
        """
        device = self._device
        channels, height, width = self._tile_shape
        scratch_bytes = self._scratch_bytes(batch)
        sizes_bytes = {
            f"{NETWORK_ROLES} input of {batch}": batch * channels * height * width * 4,
            f"{NETWORK_ROLES} output of {batch}": batch * height * width * 4,
            f"{NETWORK_ROLES} scratch of {batch}": max(256, scratch_bytes),
        }
        try:
            addresses = [device.memory(role, size_bytes) for role, size_bytes in sizes_bytes.items()]
        except DeviceOutOfMemory:
            for role in sizes_bytes:
                device.free(role)
            raise
        self._drop_graphs()
        self.input, self.output, scratch = addresses
        context = self._context
        context.set_device_memory(scratch, scratch_bytes)
        context.set_tensor_address(INPUT_NAME, self.input)
        context.set_tensor_address(OUTPUT_NAME, self.output)
        for role in self._roles:
            device.free(role)
        self._roles = list(sizes_bytes)
        self.batch = batch

    def _bytes_for(self, batch: int) -> int:
        channels, height, width = self._tile_shape
        return self._scratch_bytes(batch) + batch * (channels + 1) * height * width * 4

    def _scratch_bytes(self, batch: int) -> int:
        """What the engine wants for any batch up to this one."""
        return max(self._set_count(count) for count in range(1, batch + 1))

    def _set_count(self, count: int) -> int:
        """Let the next batch be of `count` tiles; the bytes of scratch that it wants."""
        if count != self._count:
            context = self._context
            if not context.set_input_shape(INPUT_NAME, (count, *self._tile_shape)):
                raise ManifestInvalid(f"the engine takes no batch of {count} ({self._messages.text}); build it again")
            self._count, self._count_bytes = count, int(context.update_device_memory_size_for_shapes())
        return self._count_bytes

    def _execute(self, stream: Stream) -> bool:
        context = self._context
        return bool(context.execute_async_v3(stream.handle))

    def _warm_up(self) -> None:
        """Every batch size twice: kernels are loaded (compiled, by TensorRT-RTX) and graphs recorded before work."""
        device = self._device
        channels, height, width = self._tile_shape
        device.fill(self.input, 0, self.batch * channels * height * width * 4, device.compute)
        for count in range(self.batch, 0, -1):
            for _ in range(2):
                self.enqueue(count, device.compute)
        device.wait_for_all()

    def _drop_graphs(self) -> None:
        """They hold the addresses of the memory that they were recorded in."""
        self._ran.clear()
        self._device.wait_for_all()
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()

    def _check_tensors(self, max_batch: int) -> None:
        engine = self._engine
        found: dict[str, tuple[int, ...]] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = engine.get_tensor_shape(name)
            found[name] = tuple(shape[axis] for axis in range(len(shape)))
        channels, height, width = self._tile_shape
        wanted = {INPUT_NAME: (-1, channels, height, width), OUTPUT_NAME: (-1, 1, height, width)}
        if max_batch == 1:
            found = {name: (-1, *shape[1:]) for name, shape in found.items()}
        if found != wanted:
            raise ManifestInvalid(f"the engine has {found}; its manifest describes {wanted}; build it again")

    def _context_of(self, module: ModuleType) -> Any:
        if TYPE_CHECKING:
            trt = tensorrt
        else:
            trt = module
        engine = self._engine
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return self._made(engine.create_execution_context(strategy), "make a context for the engine")

    def _rtx_context(self, cache_name: str, graphs: bool) -> tuple[Any, Any]:
        """A context with graphs of its own, and the cache of the kernels that it compiles.

        Kernels for the shapes are compiled when asked for, not swapped in later: one scene gives the same bytes always.
        """
        rtx: Any = self._library.module
        config: Any = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(rtx.ExecutionContextAllocationStrategy.USER_MANAGED)
        config.dynamic_shapes_kernel_specialization_strategy = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        strategy = rtx.CudaGraphStrategy
        config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if graphs else strategy.DISABLED
        cache = config.create_runtime_cache()
        if kept := recall(cache_name):
            cache.deserialize(kept)  # refuses what another GPU or version left
        config.set_runtime_cache(cache)
        return self._made(self._engine.create_execution_context(config), "make a context for the engine"), cache

    def _made(self, thing: Any, what: str) -> Any:
        if thing is None:
            raise DeviceUnavailable(
                f"{self._library.name} {self._library.version} does not {what} ({self._messages.text}); build it again "
                "on this machine (`sarwater build-engine`)"
            )
        return thing


def _messages(module: ModuleType) -> Any:
    """TensorRT's last error, kept for the message of ours that it explains."""
    if TYPE_CHECKING:
        trt = tensorrt
    else:
        trt = module

    class Messages(trt.ILogger):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.text = "no reason was given"

        def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.text = msg.strip()

    return Messages()
