"""The seam between CPU and GPU is the strip: raw sensor rows and a TilePlan go in, finished rows come out.

    with open_backend(model) as backend:
        run = backend.begin(plan, nodata=0)
        for span in plan.rows:                      # north to south
            finished = run.push(rows)               # rows[span.start : span.start + tile_px], sensor dtype
            ...write finished.mask, finished.confidence...

`push` may hold back the rows that the next strip still blends into; the last one returns all that are left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sarwater.manifest import ModelManifest
from sarwater.models import Model
from sarwater.tiling import TilePlan

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FinishedRows:
    """Rows that no later strip touches, full scene width, starting at scene row `row`."""

    row: int
    mask: UInt8
    """(n, W) uint8: 0 land, 1 water, 255 nodata."""
    confidence: UInt8
    """(n, W) uint8: probability of water in percent, 0..100; 255 nodata."""


@dataclass
class RunCounters:
    """What a run did so far; seconds are sums over the scene, on the clock of the device that did the work."""

    tiles: int = 0
    tiles_skipped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds, of: h2d, gather, infer, blend, d2h. A backend fills those it has."""


class SceneRun(ABC):
    """One scene on its way through a backend. Not thread-safe: one thread pushes."""

    counters: RunCounters
    on_tile: Callable[[], None] | None = None
    """Called within `push` whenever `counters` moved on: progress bars and watchdogs hang here."""

    @abstractmethod
    def push(self, rows: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None = None) -> FinishedRows:
        """Take the next tile row's pixels and return the rows now finished (possibly none).

        rows:  (C, n, W) uint8, uint16, int16 or float32, n = min(tile_px, H): scene rows from `span.start`.
        valid: (n, W) bool, False where nodata; None means: wherever any channel differs from `nodata`. Given with
               every strip of a scene, or with none.
        """


class Backend(ABC):
    """An opened model on one device. A context manager: leaving it frees the device.

    Raises on opening: HashMismatch, ManifestInvalid, DependencyMissing, DeviceUnavailable.
    """

    manifest: ModelManifest
    model_sha256: str
    name: str
    """`openvino`, `tensorrt`, `tensorrt-rtx`, `torch` or `fake`: a label in records and metrics."""
    device: str
    """What a person would call it: `AMD EPYC 9755`, `NVIDIA Jetson AGX Orin`."""

    @classmethod
    @abstractmethod
    def open(cls, model: Model, tile_px: int | None = None) -> Backend:
        """Check the file's hash against its manifest, then open it. `tile_px` is another tile than the file's own."""

    @classmethod  # noqa: B027
    def check_device(cls) -> None:
        """Raises DeviceUnavailable where this machine has no such device."""

    def plan(self, height_px: int, width_px: int) -> TilePlan:
        """Where the windows of such a scene lie: the same for every run with this backend and model."""
        return TilePlan(height_px, width_px, self.manifest.tile_px, self.manifest.overlap_px).with_wide_fades()

    @abstractmethod
    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        """Start a scene, by a plan of `plan`; `threshold` defaults to the manifest's. `gains`: by what the pixels of
        each channel are multiplied on their way into the network; nothing where empty."""

    @abstractmethod
    def infer(self, tiles: Float32) -> Float32:
        """(N, C, H, W) float32 raw pixels -> (N, 1, H, W) float32 probability; for warm-up, proofs and benchmarks."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
