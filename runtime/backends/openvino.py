"""ONNX on the CPU with OpenVINO: tiles go through a ring of asynchronous requests, a few at a time.

Precision is pinned to float32, so that one scene gives one mask on every CPU: left alone, OpenVINO takes bfloat16
where the CPU has it. INT8 graphs (Q/DQ) still run in INT8, because that is in the graph.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend, SceneRun
from runtime.backends.host import HostRun
from sarwater.errors import ConfigurationError, DependencyMissing, ManifestInvalid, UsageError
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, ModelManifest
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]

THREADS_VARIABLE = "SARWATER_THREADS"


class OpenVinoBackend(Backend):
    """`threads` is the number of CPU threads for inference; None takes $SARWATER_THREADS, else every core.
    `tile_px` reshapes the network to another tile size in memory; None keeps the file's."""

    name = "openvino"

    def __init__(
        self,
        path: Path,
        manifest: ModelManifest,
        model_sha256: str,
        threads: int | None = None,
        tile_px: int | None = None,
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise DependencyMissing(
                f"OpenVINO is not installed ({error}); it runs models on the CPU: pip install openvino"
            ) from error
        self.manifest = manifest if tile_px is None else manifest.with_tile(tile_px)
        self.model_sha256 = model_sha256
        core = openvino.Core()
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        model = _read_model(openvino, core, path, manifest)
        if tile_px is not None:
            _reshape(model, path, self.manifest)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        if threads := threads or _threads_wanted():
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, "CPU", settings)
        # One more than can work at once: its tile is ready when a worker falls free.
        depth = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        self.network = _Requests(openvino, self._compiled, len(manifest.channels), self.manifest.tile_px, depth)

    def begin(self, plan: TilePlan, nodata: float | None, threshold: float | None = None) -> SceneRun:
        return HostRun(plan, self.network, nodata, self.manifest.threshold if threshold is None else threshold)

    def infer(self, tiles: Float32) -> Float32:
        depth = self.network.depth
        answers = np.empty((len(tiles), 1, *tiles.shape[2:]), np.float32)
        for number, tile in enumerate(tiles):
            if number >= depth:
                answers[number - depth, 0] = self.network.result(number % depth)
            self.network.input(number % depth)[...] = tile
            self.network.start(number % depth)
        for number in range(max(0, len(tiles) - depth), len(tiles)):
            answers[number, 0] = self.network.result(number % depth)
        return answers

    def close(self) -> None:
        del self.network, self._compiled


class _Requests:
    """A TileNetwork: each slot is an inference request that reads and writes memory of its own, without copies."""

    def __init__(self, openvino: Any, compiled: Any, channels: int, tile_px: int, depth: int) -> None:
        self.depth = depth
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


def _read_model(openvino: Any, core: Any, path: Path, manifest: ModelManifest) -> Any:
    """The graph, fixed to one tile. Raises ManifestInvalid unless it is the graph that the manifest describes."""
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
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ManifestInvalid(
            f"{path}: OpenVINO cannot read it as an ONNX graph ({reason}); export it again"
        ) from error
    if not described:
        ports = ", ".join(f"{name} {shape}" for name, shape in found.items())
        wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ManifestInvalid(f"{path}: has {ports}; its manifest describes {wanted}; export it again")
    return model


def _reshape(model: Any, path: Path, manifest: ModelManifest) -> None:
    """Fit the graph to the manifest's tile. Raises UsageError where a size is written into the graph itself."""
    tile_px = manifest.tile_px
    try:
        model.reshape({INPUT_NAME: [1, len(manifest.channels), tile_px, tile_px]})
    except RuntimeError as error:
        raise UsageError(
            f"{path}: cannot be run at a tile of {tile_px} px ({str(error).strip().splitlines()[-1]}); "
            "export it for that size: `sarwater-export MODEL --tile`"
        ) from error


def _threads_wanted() -> int | None:
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"{THREADS_VARIABLE}={text}: expected a number of CPU threads, 1 or more")
    return int(text)
