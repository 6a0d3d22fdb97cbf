"""Engines on an NVIDIA GPU: TensorRT, its lean runtime, or TensorRT-RTX. How it works: docs/gpu.md."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend, SceneRun
from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.engine import EngineNetwork, check_engine
from runtime.backends.gpu.inference import infer
from runtime.backends.gpu.scene_run import GpuRun
from sarwater.errors import DeviceLost, ManifestInvalid, UsageError
from sarwater.gpu import require_gpu
from sarwater.manifest import ModelManifest
from sarwater.models import Model
from sarwater.tensorrt_library import find_library
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]


class TensorRtBackend(Backend):
    """An engine, `plan` its bytes as its manifest vouches for them; only the thread that opens it may use it.

    `graphs`: replay the network as a CUDA graph. Raises DeviceUnavailable (no driver or GPU, engine of another GPU or
    version, no room), DependencyMissing (TensorRT, PyCUDA, a compiler), ManifestInvalid, DeviceLost.
    """

    @classmethod
    def open(cls, model: Model, tile_px: int | None = None) -> TensorRtBackend:
        plan, digest = model.manifest.read_verified(model.path)
        if tile_px not in (None, model.manifest.tile_px):
            raise UsageError(
                f"{model.path}: built for a tile of {model.manifest.tile_px} px, asked for {tile_px}; build another: "
                f"`sarwater build-engine MODEL --tile-px {tile_px}`"
            )
        return cls(model.path, model.manifest, plan, digest)

    @classmethod
    def check_device(cls) -> None:
        require_gpu()

    def __init__(
        self, path: Path, manifest: ModelManifest, plan: bytes, model_sha256: str, graphs: bool = True
    ) -> None:
        if manifest.engine is None:
            raise ManifestInvalid(f"{path}: its manifest does not say what engine it is; build it again")
        self.manifest = manifest
        self.model_sha256 = model_sha256
        self.name = manifest.engine.flavor
        version_compatible = bool(manifest.recipe.get("options", {}).get("version_compatible", False))
        self._gpu = CudaDevice()
        try:
            self.device = self._gpu.name
            library = find_library(manifest.engine.flavor, manifest.engine.library_version, version_compatible)
            check_engine(manifest.engine, version_compatible, library, self._gpu.name, self._gpu.compute_capability)
            cache_name = f"rtx-{library.version}-sm_{self._gpu.compute_capability}-{model_sha256[:16]}.cache"
            self.network = EngineNetwork(library, plan, manifest, self._gpu, cache_name, graphs)
        except BaseException:
            self._gpu.close()
            raise

    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        threshold = self.manifest.threshold if threshold is None else threshold
        return GpuRun(plan, self._gpu, self.network, len(self.manifest.channels), nodata, threshold, gains)

    def infer(self, tiles: Float32) -> Float32:
        """Raises DeviceOutOfMemory, DeviceLost."""
        return infer(self._gpu, self.network, tiles)

    def close(self) -> None:
        try:
            with contextlib.suppress(DeviceLost):
                self.network.close()
        finally:
            self._gpu.close()
