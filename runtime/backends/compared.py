"""A backend whose answers are compared with another's: of the first scenes of a new model, a few windows each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend, FinishedRows, SceneRun
from runtime.backends.cpu.host import as_factors, as_pixel, gather
from runtime.backends.cpu.windows import windows_with_data
from sarwater.errors import ProofFailed
from sarwater.metrics import LARGEST_CHANGED_SHARE
from sarwater.models import Model
from sarwater.tiling import Span, TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

WINDOWS = 4
"""Of each scene."""


class ComparedBackend(Backend):
    """`backend`, and for its next `scenes` scenes `reference`, the same network, beside it. Both are closed with it.

    A scene whose classes differ by more than LARGEST_CHANGED_SHARE raises ProofFailed before its last rows are given
    out, so that no mask of it becomes visible.
    """

    def __init__(self, backend: Backend, reference: Backend, scenes: int) -> None:
        self.manifest, self.model_sha256 = backend.manifest, backend.model_sha256
        self.name, self.device = backend.name, backend.device
        self.left = scenes
        """How many scenes are still to be compared."""
        self.changed_share: float | None = None
        """What the last comparison found; None where there was none, or nothing to compare."""
        self._backend = backend
        self._reference = reference

    @classmethod
    def open(cls, model: Model, tile_px: int | None = None) -> Backend:
        raise NotImplementedError("it is made of two backends that are open")

    def plan(self, height_px: int, width_px: int) -> TilePlan:
        return self._backend.plan(height_px, width_px)

    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        run = self._backend.begin(plan, nodata, threshold, gains)
        self.changed_share = None
        return _ComparedRun(self, run, plan, nodata, threshold, as_factors(gains)) if self.left else run

    def infer(self, tiles: Float32) -> Float32:
        return self._backend.infer(tiles)

    def compare(self, tiles: list[Float32], threshold: float | None, tick: Callable[[], None]) -> None:
        """(C, T, T) each; `tick` is called after each. Raises ProofFailed."""
        limit = np.float32(self.manifest.threshold if threshold is None else threshold)
        changed = pixels = 0
        for tile in tiles:
            seen = (tile != 0).any(axis=0)
            ours, theirs = (each.infer(tile[None])[0, 0] >= limit for each in (self._backend, self._reference))
            changed += int((ours != theirs)[seen].sum())
            pixels += int(seen.sum())
            tick()
        if not pixels:
            return
        self.changed_share, most = changed / pixels, LARGEST_CHANGED_SHARE[self.manifest.precision]
        if self.changed_share > most:
            raise ProofFailed(
                f"{self.changed_share:.2%} of the pixels of {len(tiles)} windows differ from its fp32 graph on the "
                f"CPU, expected {most:.1%} at most"
            )
        self.left -= 1

    def close(self) -> None:
        try:
            self._backend.close()
        finally:
            self._reference.close()


class _ComparedRun(SceneRun):
    """Keeps a few windows as they go by, spread over the scene, and compares them at its end: a device at work on a
    scene is not asked other things meanwhile."""

    def __init__(
        self,
        backend: ComparedBackend,
        run: SceneRun,
        plan: TilePlan,
        nodata: float | None,
        threshold: float | None,
        gains: Float32 | None,
    ) -> None:
        self.counters = run.counters
        self._backend, self._run, self._plan = backend, run, plan
        self._nodata, self._threshold, self._gains = nodata, threshold, gains
        self._pushed = 0
        self._kept: list[Float32] = []

    def push(self, rows: Pixels, valid: Bool | None = None) -> FinishedRows:
        self._run.on_tile = self.on_tile
        self._keep(self._plan.rows[self._pushed], rows, valid)
        self._pushed += 1
        finished = self._run.push(rows, valid)
        if self._pushed == len(self._plan.rows):
            self._backend.compare(self._kept, self._threshold, self.on_tile or (lambda: None))
        return finished

    def _keep(self, span: Span, rows: Pixels, valid: Bool | None) -> None:
        """As many windows as are due by this tile row, evenly from those with data."""
        due = -(-WINDOWS * (self._pushed + 1) // len(self._plan.rows)) - len(self._kept)
        nodata = as_pixel(self._nodata, rows.dtype)
        if valid is None and nodata is not None:
            valid = (rows != nodata).any(axis=0)
        columns = windows_with_data(self._plan, span, rows, valid, nodata) if due > 0 else []
        for index in sorted(set(np.linspace(0, len(columns) - 1, min(due, len(columns))).astype(int).tolist())):
            tile = np.empty((len(rows), self._plan.tile_px, self._plan.tile_px), np.float32)
            gather(rows, valid, nodata, columns[index].start, tile, self._gains)
            self._kept.append(tile)
