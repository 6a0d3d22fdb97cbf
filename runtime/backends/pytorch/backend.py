"""A model's ONNX file through PyTorch: on a GPU that no installed TensorRT serves, or, for development, on the CPU."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend, SceneRun
from runtime.backends.cpu.host import HostRun
from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.inference import infer
from runtime.backends.gpu.scene_run import GpuRun
from runtime.backends.pytorch.graph import PURPOSE, TorchGraph
from runtime.backends.pytorch.network import HostNetwork, TorchCuda, TorchNetwork
from sarwater.dependencies import require
from sarwater.errors import DeviceLost, UsageError
from sarwater.gpu import first_gpu
from sarwater.manifest import ModelManifest
from sarwater.models import Model
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]
Precision = Literal["fp32", "fp16", "bf16"]

BATCH = 8
_HALVES = {"fp16": "float16", "bf16": "bfloat16"}


class TorchBackend(Backend):
    """`content`: the ONNX file's bytes as its manifest vouches for them. On a GPU, only the thread that opens it may
    use it.

    precision: None computes an fp32 graph in fp16 on a GPU and as it is on the CPU; an fp16 graph always as it is.
    Raises DependencyMissing (torch, onnx; on a GPU PyCUDA and a compiler), DeviceUnavailable (a GPU that PyTorch cannot
    use, or without room), ManifestInvalid (an operator that is not among ours), UsageError (an int8 graph, a tile that
    does not suit).
    """

    name = "torch"

    @classmethod
    def open(cls, model: Model, tile_px: int | None = None) -> TorchBackend:
        content, digest = model.manifest.read_verified(model.path)
        return cls(model.path, model.manifest, content, digest, tile_px)

    def __init__(
        self,
        path: Path,
        manifest: ModelManifest,
        content: bytes,
        model_sha256: str,
        tile_px: int | None = None,
        precision: Precision | None = None,
        batch: int = BATCH,
    ) -> None:
        if manifest.precision == "int8":
            raise UsageError(
                f"{path}: an int8 graph, which PyTorch does not run; give the fp32 or fp16 file that it was made from"
            )
        require("torch", PURPOSE, "`pip install 'sarwater[torch]'`")
        self.model_sha256 = model_sha256
        gpu = first_gpu()
        if precision is None:
            precision = "fp16" if gpu and manifest.precision == "fp32" else "fp32"
        self.manifest = manifest if tile_px is None else manifest.with_tile(tile_px)
        if precision == "fp16":
            self.manifest = dataclasses.replace(self.manifest, precision="fp16")
        self._gpu: CudaDevice | None = None
        self.network: TorchNetwork | HostNetwork
        channels, half = len(manifest.channels), _HALVES.get(precision)
        if gpu is None:
            self.device = "CPU"
            graph = TorchGraph(content, str(path), "cpu", half)
            if tile_px is not None:
                graph.check_tile(channels, tile_px)
            self.network = HostNetwork(graph, channels, self.manifest.tile_px)
            return
        self.device = gpu.name
        cuda = TorchCuda()
        self._gpu = CudaDevice()
        try:
            graph = TorchGraph(content, str(path), "cuda", half)
            if tile_px is not None:
                graph.check_tile(channels, tile_px)
            self.network = TorchNetwork(self._gpu, cuda, graph, channels, self.manifest.tile_px, batch)
        except BaseException:
            self._gpu.close()
            raise

    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        threshold = self.manifest.threshold if threshold is None else threshold
        if isinstance(self.network, HostNetwork):
            return HostRun(plan, self.network, nodata, threshold, gains)
        assert self._gpu is not None
        return GpuRun(plan, self._gpu, self.network, len(self.manifest.channels), nodata, threshold, gains)

    def infer(self, tiles: Float32) -> Float32:
        """Raises DeviceOutOfMemory, DeviceLost."""
        if not isinstance(self.network, HostNetwork):
            assert self._gpu is not None
            return infer(self._gpu, self.network, tiles)
        answers = np.empty((len(tiles), 1, *tiles.shape[2:]), np.float32)
        for tile, answer in zip(tiles, answers, strict=True):
            self.network.input(0)[...] = tile
            answer[0] = self.network.result(0)
        return answers

    def close(self) -> None:
        if self._gpu is None:
            return
        try:
            if isinstance(self.network, TorchNetwork):
                with contextlib.suppress(DeviceLost):
                    self.network.close()
        finally:
            self._gpu.close()
