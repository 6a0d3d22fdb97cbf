"""ONNX -> plan, the same calls for TensorRT 10.3 to 11.x and TensorRT-RTX.

Only what all of them have is used: strongly typed networks, precision from the graph. (TensorRT 11 removed the FP16
and INT8 builder flags, implicit calibration and precision constraints: NVIDIA's migration guide 10.x -> 11.x.)
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sarwater.atomic import replacing
from sarwater.errors import DeviceUnavailable, ExportError, UsageError
from sarwater.gpu import Gpu, first_gpu
from sarwater.manifest import INPUT_NAME
from sarwater.tensorrt_library import PORTABLE, TENSORRT, TENSORRT_RTX, Library, builder, is_for, missing

if TYPE_CHECKING:
    import tensorrt

FLAVOR_CHOICES = {"auto": (TENSORRT, TENSORRT_RTX), "tensorrt": (TENSORRT,), "rtx": (TENSORRT_RTX,)}

Progress = Callable[[str, int, int], None]
"""Called with (phase, steps done, steps) while a plan is built."""


@dataclass(frozen=True)
class PlanOptions:
    tile_px: int
    channels: int
    max_batch: int = 8
    opt_batch: int = 4
    workspace_bytes: int | None = None
    """Scratch memory a layer may use on the device; None leaves it to TensorRT (all there is)."""
    compute_capabilities: tuple[str, ...] = ()
    """TensorRT-RTX only: the GPUs the plan is for, `8.6` and the like; none means every one that it serves, from
    Ampere on."""
    dla_core: int | None = None
    version_compatible: bool = False
    timing_cache: Path | None = None
    """Folder that keeps TensorRT's kernel timings, one file per device and version: the next build is quicker."""


def choose_library(flavor: str = "auto", compute_capabilities: Sequence[str] = ()) -> Library:
    """The library of `flavor` (`tensorrt`, `rtx` or `auto`: TensorRT where there is one and a GPU, else TensorRT-RTX).
    With `compute_capabilities` it builds for those, whatever GPU is here. Its `gpu` runs the engine, or is None.

    Raises DependencyMissing with the install command, DeviceUnavailable for TensorRT without a GPU and for a GPU that
    TensorRT-RTX does not serve.
    """
    gpu, wanted = first_gpu(), FLAVOR_CHOICES[flavor]
    found = {flavour: module for flavour in wanted if (module := builder(flavour)) is not None}
    if TENSORRT in found and gpu is not None:
        return Library(TENSORRT.name, found[TENSORRT], gpu)
    if TENSORRT_RTX in found:
        return _rtx(found[TENSORRT_RTX], gpu, compute_capabilities)
    if TENSORRT in found:
        raise DeviceUnavailable(
            "tensorrt is installed, but no NVIDIA GPU answers; it times its kernels on the GPU it builds for: build on "
            f"the machine that will run the engine, or without a GPU with --flavor rtx, {TENSORRT_RTX.install}"
        )
    raise missing(wanted, f"no {' or '.join(flavour.module for flavour in wanted)} in this Python; install")


def _rtx(module: ModuleType, gpu: Gpu | None, compute_capabilities: Sequence[str]) -> Library:
    if gpu is None or (compute_capabilities and gpu.compute_capability not in compute_capabilities):
        return Library(TENSORRT_RTX.name, module)
    library = Library(TENSORRT_RTX.name, module, gpu)
    library.check_serves(gpu)
    if not compute_capabilities and not is_for(PORTABLE, gpu.compute_capability):
        raise DeviceUnavailable(
            f"{gpu.name}: portable engines are for newer GPUs than compute capability {gpu.compute_capability}; build "
            f"one for this: `sarwater build-engine MODEL --compute-capability {gpu.compute_capability}`"
        )
    return library


def build_plan(
    library: Library, onnx_bytes: bytes, options: PlanOptions, progress: Progress
) -> tuple[bytes, list[Any]]:
    """Build one plan; returns it with the layers of its network (name, type, output type and shape).

    Raises ExportError, naming the node, for a graph that the parser refuses or a build that fails; KeyboardInterrupt
    passes through, after the builder has stopped.
    """
    if TYPE_CHECKING:
        trt = tensorrt
    else:
        trt = library.module
    messages = _Messages.attached(library.module)
    builder = trt.Builder(messages)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(onnx_bytes):
        raise ExportError(_parse_errors(parser))
    config = builder.create_builder_config()
    _configure(library, builder, config, options)
    cache_path = _cache_path(library, options)
    if cache_path is not None:
        _load_timings(config, cache_path)
    monitor = _monitor(library.module, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise ExportError(f"{library.name} {library.version} could not build the engine: {messages.text}")
    if cache_path is not None:
        _save_timings(config, cache_path)
        return bytes(plan), _engine_layers(library.module, bytes(plan), messages)
    return bytes(plan), _network_layers(network)


def _configure(
    library: Library, builder: tensorrt.Builder, config: tensorrt.IBuilderConfig, options: PlanOptions
) -> None:
    if TYPE_CHECKING:
        trt = tensorrt
    else:
        trt = library.module
    profile = builder.create_optimization_profile()
    low, best, high = (
        trt.Dims4(n, options.channels, options.tile_px, options.tile_px)
        for n in (1, options.opt_batch, options.max_batch)
    )
    profile.set_shape(INPUT_NAME, low, best, high)
    config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        # The lean runtime would travel inside the plan as host code; the machine that runs it has its own.
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if options.dla_core is not None:
        if library.is_rtx:
            raise UsageError("--dla: only TensorRT (--flavor tensorrt) builds for a DLA core, TensorRT-RTX does not")
        if options.dla_core >= builder.num_DLA_cores:
            raise DeviceUnavailable(
                f"--dla {options.dla_core}: this device has {builder.num_DLA_cores} DLA cores; leave --dla out to "
                "build for its GPU"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if options.compute_capabilities:
        _target(library, config, options.compute_capabilities)


def _target(library: Library, config: Any, capabilities: tuple[str, ...]) -> None:
    """Bind the plan to some GPUs; `config` is a TensorRT-RTX one, whose stubs nobody publishes."""
    if not library.is_rtx:
        raise UsageError(
            "--compute-capability: TensorRT builds for the GPU of this machine; only --flavor rtx can choose"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        if capability not in library.compute_capabilities:
            raise UsageError(
                f"--compute-capability {capability}: TensorRT-RTX {library.version} builds for "
                + ", ".join(library.compute_capabilities)
            )
        config.set_compute_capability(
            getattr(library.module.ComputeCapability, "SM" + capability.replace(".", "")), index
        )


class _Messages:
    """TensorRT's own messages, kept for the error that they explain."""

    @staticmethod
    def attached(module: ModuleType) -> Any:
        if TYPE_CHECKING:
            trt = tensorrt
        else:
            trt = module

        class Logger(trt.ILogger):  # type: ignore[misc,name-defined,unused-ignore]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
                if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                    self.errors.append(msg.strip())

            @property
            def text(self) -> str:
                return "; ".join(self.errors) or "no reason was given"

        return Logger()


def _monitor(module: ModuleType, progress: Progress) -> Any:
    if TYPE_CHECKING:
        trt = tensorrt
    else:
        trt = module

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined,unused-ignore]
        """Passes the builder's phases on. Called from C++: an exception must not leave it, so Ctrl-C becomes a stop."""

        def __init__(self) -> None:
            super().__init__()
            self.interrupted = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.pop(phase_name, 1))

        def _tell(self, phase: str, done: int) -> None:
            try:
                progress(phase, done, self._steps.get(phase, done))
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()


def _parse_errors(parser: tensorrt.OnnxParser) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    first = errors[0]
    return (
        f"node {first.node_name() or first.node()} ({first.node_operator()}) cannot be parsed: {first.desc()}; "
        "export the model again, with fewer fp32 or int8 layers around that node if a type is to blame"
    )


def _cache_path(library: Library, options: PlanOptions) -> Path | None:
    """TensorRT times kernels on the device; TensorRT-RTX does not, its plans are finished on the user's."""
    if library.is_rtx or library.gpu is None or options.timing_cache is None:
        return None
    gpu = re.sub(r"[^a-z0-9]+", "-", library.gpu.name.lower()).strip("-")
    return options.timing_cache / f"{gpu}-{library.version}.cache"


def _load_timings(config: tensorrt.IBuilderConfig, path: Path) -> None:
    try:
        known = path.read_bytes()
    except OSError:
        known = b""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)  # of another driver: start afresh


def _save_timings(config: tensorrt.IBuilderConfig, path: Path) -> None:
    with contextlib.suppress(OSError), replacing(path) as temporary:  # without it the next build is slower, no more
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _engine_layers(module: ModuleType, plan: bytes, messages: Any) -> list[Any]:
    """The layers of the finished engine, as TensorRT's inspector has them; for a plan that was just built here."""
    if TYPE_CHECKING:
        trt = tensorrt
    else:
        trt = module
    engine = trt.Runtime(messages).deserialize_cuda_engine(plan)
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers: list[Any] = json.loads(text)["Layers"]
    return layers


def _network_layers(network: tensorrt.INetworkDefinition) -> list[Any]:
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        output = layer.get_output(0)
        layers.append(
            {
                "name": layer.name,
                "type": layer.type.name.lower(),
                "output_type": output.dtype.name.lower(),
                "output_shape": [output.shape[axis] for axis in range(len(output.shape))],
            }
        )
    return layers
