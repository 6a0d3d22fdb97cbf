"""ONNX on the CPU with OpenVINO: tiles go through a ring of asynchronous requests, a few at a time.

Precision is pinned to float32, so that one scene gives one mask on every CPU: left alone, OpenVINO takes bfloat16
where the CPU has it, which costs more accuracy than the gates allow (docs/export.md). INT8 graphs (Q/DQ) still run in
INT8, because that is in the graph.

A graph is compiled when a tile first needs it, which takes half a second. One that takes other heights and widths is
compiled for the tile that fits a scene best (`TilePlan.fitted`); the next scene of that size is spared the work.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend, SceneRun
from runtime.backends.cpu.host import HostRun
from sarwater.dependencies import require
from sarwater.errors import ConfigurationError, ManifestInvalid, UsageError
from sarwater.families import FAMILIES
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, ModelManifest
from sarwater.models import Model
from sarwater.onnx_file import refuse_external_data
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]

THREADS_VARIABLE = "SARWATER_THREADS"


class OpenVinoBackend(Backend):
    """`threads` is the number of CPU threads for inference; None takes $SARWATER_THREADS, else every core.
    `tile_px` reshapes the network in memory to exactly that tile; None takes the file's, or another where a scene is
    computed with less waste (`TilePlan.fitted`). `precision` is what an fp32 graph is computed in, `f32` or `bf16`, for
    benchmarks: masks do not say which."""

    name = "openvino"

    @classmethod
    def open(cls, model: Model, tile_px: int | None = None) -> OpenVinoBackend:
        return cls(model.path, model.manifest, model.manifest.verify(model.path), tile_px=tile_px)

    def __init__(
        self,
        path: Path,
        manifest: ModelManifest,
        model_sha256: str,
        threads: int | None = None,
        tile_px: int | None = None,
        precision: str = "f32",
    ) -> None:
        openvino = require_openvino()
        self.manifest = manifest if tile_px is None else manifest.with_tile(tile_px)
        self.model_sha256 = model_sha256
        core = _core()
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        self._graph = _read_graph(openvino, core, path, manifest)
        self._fits = tile_px is None and _takes_other_tiles(self._graph, manifest)
        if tile_px is not None:
            _reshape(self._graph, path, self.manifest)
        self._openvino = openvino
        self._core = core
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        if threads := threads or _threads_wanted():
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._networks: dict[int, _Requests] = {}
        """By tile: for the model's own, and for that of the last scene that took another one."""

    def plan(self, height_px: int, width_px: int) -> TilePlan:
        if not self._fits:
            return super().plan(height_px, width_px)
        manifest = self.manifest
        step_px = FAMILIES[manifest.family].tile_step_px
        return TilePlan.fitted(height_px, width_px, manifest.tile_px, manifest.overlap_px, step_px).with_wide_fades()

    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        network = self._network_for(plan.tile_px)
        return HostRun(plan, network, nodata, self.manifest.threshold if threshold is None else threshold, gains)

    def infer(self, tiles: Float32) -> Float32:
        network = self._network_for(tiles.shape[2])
        depth = network.depth
        answers = np.empty((len(tiles), 1, *tiles.shape[2:]), np.float32)
        for number, tile in enumerate(tiles):
            if number >= depth:
                answers[number - depth, 0] = network.result(number % depth)
            network.input(number % depth)[...] = tile
            network.start(number % depth)
        for number in range(max(0, len(tiles) - depth), len(tiles)):
            answers[number, 0] = network.result(number % depth)
        return answers

    def _network_for(self, tile_px: int) -> _Requests:
        if tile_px not in self._networks:
            for other_px in self._networks.keys() - {self.manifest.tile_px}:
                del self._networks[other_px]  # its memory first
            channels = len(self.manifest.channels)
            self._graph.reshape({INPUT_NAME: [1, channels, tile_px, tile_px]})
            compiled = self._core.compile_model(self._graph, "CPU", self._settings)
            self._networks[tile_px] = _Requests(self._openvino, compiled, channels, tile_px)
        return self._networks[tile_px]

    def close(self) -> None:
        del self._networks, self._core, self._graph


def computes_bf16() -> bool:
    """Whether this processor does (AVX512-BF16, AMX)."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def require_openvino() -> Any:
    """OpenVINO, which is not to tell its makers of it. Raises DependencyMissing.

    When it is imported, it reports that over the network unless the user's home holds a refusal, keeps an identifier
    there, and warns where it cannot. Without the module that does so, it leaves it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so Python marks a module not to import
    return require("openvino", "inference on the CPU")


@functools.cache
def _core() -> Any:
    """OpenVINO, once per process and never let go.

    Its CPU plugin gives the thread that loads it an alternate signal stack, and frees that with the last Core, in
    whichever thread. Python handles signals on that stack: the next Ctrl-C, SIGTERM or end of a child would be a
    segmentation fault without a word (seen in OpenVINO 2026.4; SigAltStackSetup of its plugin.cpp).
    """
    return require_openvino().Core()


class _Requests:
    """A TileNetwork: each slot is an inference request that reads and writes memory of its own, without copies."""

    def __init__(self, openvino: Any, compiled: Any, channels: int, tile_px: int) -> None:
        # One more than can work at once: its tile is ready when a worker falls free.
        self.depth = depth = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        self.tile_px = tile_px
        self._inputs = [np.zeros((1, channels, tile_px, tile_px), np.float32) for _ in range(depth)]
        self._requests = [compiled.create_infer_request() for _ in range(depth)]
        for request, tile in zip(self._requests, self._inputs, strict=True):
            request.set_input_tensor(0, openvino.Tensor(tile, shared_memory=True))

    def input(self, slot: int) -> Float32:
        return self._inputs[slot][0]  # type: ignore[no-any-return]

    def start(self, slot: int) -> None:
        self._requests[slot].start_async()

    def result(self, slot: int) -> Float32:
        self._requests[slot].wait()
        return self._requests[slot].get_output_tensor(0).data[0, 0]  # type: ignore[no-any-return]


def _read_graph(openvino: Any, core: Any, path: Path, manifest: ModelManifest) -> Any:
    """The graph, fixed to one tile. Raises ManifestInvalid unless it is the graph that the manifest describes."""
    refuse_external_data(path)
    tile_px = manifest.tile_px
    shapes = {INPUT_NAME: [1, len(manifest.channels), tile_px, tile_px], OUTPUT_NAME: [1, 1, tile_px, tile_px]}
    try:
        model = core.read_model(str(path))
        found = {name: port.partial_shape for port in (*model.inputs, *model.outputs) for name in port.get_names()}
        described = all(
            name in found and found[name].compatible(openvino.PartialShape(shape)) for name, shape in shapes.items()
        )
        if described:
            model.reshape({INPUT_NAME: shapes[INPUT_NAME]})
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:  # ValueError: its own message is no UTF-8
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ManifestInvalid(
            f"{path}: OpenVINO cannot read it as an ONNX graph ({reason}); export it again"
        ) from error
    if not described:
        ports = ", ".join(f"{name} {shape}" for name, shape in found.items())
        wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ManifestInvalid(f"{path}: has {ports}; its manifest describes {wanted}; export it again")
    return model


def _takes_other_tiles(model: Any, manifest: ModelManifest) -> bool:
    """Whether the answer's size follows the tile's: some graphs have a size written into them."""
    shape = [1, len(manifest.channels), manifest.tile_px, manifest.tile_px]
    smaller_px = manifest.tile_px - FAMILIES[manifest.family].tile_step_px
    if smaller_px <= 0:
        return False
    try:
        model.reshape({INPUT_NAME: [*shape[:2], smaller_px, smaller_px]})
        return list(model.output(OUTPUT_NAME).shape) == [1, 1, smaller_px, smaller_px]
    except RuntimeError:
        return False
    finally:
        model.reshape({INPUT_NAME: shape})


def _reshape(model: Any, path: Path, manifest: ModelManifest) -> None:
    """Fit the graph to the manifest's tile. Raises UsageError where a size is written into the graph itself."""
    tile_px = manifest.tile_px
    try:
        model.reshape({INPUT_NAME: [1, len(manifest.channels), tile_px, tile_px]})
    except RuntimeError as error:
        raise UsageError(
            f"{path}: cannot be run at a tile of {tile_px} px ({str(error).strip().splitlines()[-1]}); "
            "export it for that size: `sarwater export MODEL --tile-px PX`"
        ) from error


def _threads_wanted() -> int | None:
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"{THREADS_VARIABLE}={text}: expected a number of CPU threads, 1 or more")
    return int(text)
