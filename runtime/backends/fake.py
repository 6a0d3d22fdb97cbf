"""A backend without a network or a library: dark is water. For tests of everything around the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend, SceneRun
from runtime.backends.cpu.host import HostRun
from sarwater.manifest import Channel, ModelManifest
from sarwater.models import Model
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]

BOX_PX = 5
DARK = 40.0
"""Water is where the mean of the first channel over a box is below this."""

FAKE_MANIFEST = ModelManifest(
    family="hrnet",
    variant="fake",
    channels=(Channel("sar", "amplitude_dn"),),
    tile_px=128,
    overlap_px=16,
    threshold=0.5,
    precision="fp32",
    opset=17,
    files={},
)


class FakeBackend(Backend):
    name = "fake"
    device = "none"
    depth = 1

    @classmethod
    def open(cls, model: Model, tile_px: int | None = None) -> FakeBackend:
        digest = model.manifest.verify(model.path)
        return cls(model.manifest if tile_px is None else model.manifest.with_tile(tile_px), digest)

    def __init__(self, manifest: ModelManifest = FAKE_MANIFEST, model_sha256: str = "0" * 64) -> None:
        self.manifest = manifest
        self.model_sha256 = model_sha256
        self._tile = np.zeros((len(manifest.channels), manifest.tile_px, manifest.tile_px), np.float32)

    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        return HostRun(plan, self, nodata, self.manifest.threshold if threshold is None else threshold, gains)

    def infer(self, tiles: Float32) -> Float32:
        return np.stack([_dark(tile[0]) for tile in tiles])[:, None]

    def close(self) -> None:
        """Nothing is held."""

    # It is its own TileNetwork, of one slot.
    def input(self, slot: int) -> Float32:
        return self._tile

    def start(self, slot: int) -> None:
        """The work is done when the result is asked for."""

    def result(self, slot: int) -> Float32:
        return _dark(self._tile[0])


def _dark(pixels: Float32) -> Float32:
    """(H, W) float32 -> 1 where the box mean is below DARK, else 0; sums by cumulation."""
    half = BOX_PX // 2
    padded = np.pad(pixels.astype(np.float64), ((half + 1, half), (half + 1, half)), mode="edge")
    padded[0], padded[:, 0] = 0, 0
    sums = padded.cumsum(0).cumsum(1)
    boxes = sums[BOX_PX:, BOX_PX:] - sums[:-BOX_PX, BOX_PX:] - sums[BOX_PX:, :-BOX_PX] + sums[:-BOX_PX, :-BOX_PX]
    water: Float32 = (boxes < DARK * BOX_PX**2).astype(np.float32)
    return water
