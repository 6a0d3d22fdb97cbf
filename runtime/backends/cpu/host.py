"""Gather, blend and finalise in numpy: the reference semantics of every backend, and the CPU's own.

gather     a window's pixels as float32, reflected at the edges of a scene smaller than a tile; nodata becomes 0; times
           the gain of each channel
blend      windows are joined from west to east, then tile rows from north to south (sarwater/blending.py)
finalise   water where the blend reaches the threshold; confidence = floor(100 * blend + 0.5) percent; nodata stays 255

A pixel is nodata where `valid` says so, or else where every channel equals the nodata value. A tile whose answer
would fall on nodata alone is never inferred (`windows`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows, RunCounters, SceneRun
from runtime.backends.cpu.windows import windows_with_data
from sarwater.blending import Mosaic, TileRow
from sarwater.classes import NODATA
from sarwater.errors import ModelError
from sarwater.tiling import Span, TilePlan, reflect_indices

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


_FINALISE_PIXELS = 128 * 1024
"""At a time: what fits into a processor's own cache as float32."""


class TileNetwork(Protocol):
    """A network with `depth` slots that work at the same time."""

    depth: int

    def input(self, slot: int) -> Float32:
        """(C, tile, tile) float32 to be filled before `start`; the caller may write to it until then."""

    def start(self, slot: int) -> None: ...

    def result(self, slot: int) -> Float32:
        """Wait, then (tile, tile) float32 probability: the caller's, also to write to, until the slot starts again."""


class HostRun(SceneRun):
    """One scene through a TileNetwork. Tiles of the next strip start before the last ones of this strip are in, so
    that the network never idles; hence `push` returns the rows of earlier strips, and the last push the rest."""

    def __init__(
        self,
        plan: TilePlan,
        network: TileNetwork,
        nodata: float | None,
        threshold: float,
        gains: Sequence[float] = (),
    ) -> None:
        self.counters = RunCounters(seconds={"gather": 0.0, "infer": 0.0, "blend": 0.0})
        self._plan = plan
        self._network = network
        self._nodata = nodata
        self._threshold = np.float32(threshold)
        self._gains = as_factors(gains)
        self._started: deque[tuple[int, _Strip, Span]] = deque()
        self._strips: deque[_Strip] = deque()
        self._pushed = 0
        self._most_strips = 1 + -(-network.depth // len(plan.columns))
        """Strips held at a time: this one, and as many before it as the network's slots reach back."""
        self._next_slot = 0
        self._mosaic = Mosaic(plan)
        self._busy_since = 0.0

    def push(self, rows: Pixels, valid: Bool | None = None) -> FinishedRows:
        span = self._plan.rows[self._pushed]
        self._pushed += 1
        with self._timed("gather"):
            nodata = as_pixel(self._nodata, rows.dtype)
            if valid is None and nodata is not None:
                valid = rows[0] != nodata if len(rows) == 1 else (rows != nodata).any(axis=0)
            strip = _Strip(self._plan, span, valid, self._pushed - 1)
        self._strips.append(strip)
        columns = windows_with_data(self._plan, span, rows, valid, nodata)
        if skipped := len(self._plan.columns) - len(columns):
            self.counters.tiles_skipped += skipped
            self._tick()
        for column in columns:
            self._start(strip, column, rows, valid, nodata)
        strip.complete = True
        last = self._pushed == len(self._plan.rows)
        # Not only when a slot is wanted: over nodata none is, and the strips would pile up behind an old tile.
        while self._started and (last or self._pushed - self._started[0][1].number >= self._most_strips):
            self._collect()
        return self._finished()

    def _start(self, strip: _Strip, column: Span, rows: Pixels, valid: Bool | None, nodata: np.generic | None) -> None:
        if len(self._started) == self._network.depth:
            self._collect()
        # Slots are used in turn and collected in the same order, so this one is free.
        slot, self._next_slot = self._next_slot, (self._next_slot + 1) % self._network.depth
        with self._timed("gather"):
            gather(rows, valid, nodata, column.start, self._network.input(slot), self._gains)
        if not self._started:
            self._busy_since = time.perf_counter()
        self._network.start(slot)
        self._started.append((slot, strip, column))
        strip.pending += 1

    def _collect(self) -> None:
        """Wait for the oldest tile and add it to its strip: always in the order of submission, from west to east."""
        slot, strip, column = self._started.popleft()
        probability = self._network.result(slot)
        now = time.perf_counter()
        self.counters.seconds["infer"] += now - self._busy_since
        self._busy_since = now
        with self._timed("blend"):
            strip.add(column, probability)
        strip.pending -= 1
        self.counters.tiles += 1
        self._tick()

    def _finished(self) -> FinishedRows:
        """Blend and finalise every strip whose tiles are all in."""
        parts: list[FinishedRows] = []
        with self._timed("blend"):
            while self._strips and self._strips[0].complete and not self._strips[0].pending:
                for answers in self._mosaic.push(self._strips.popleft()):
                    parts.append(finalise(*answers, self._threshold))
            if not parts:
                nothing = np.zeros((0, self._plan.width_px), np.uint8)
                return FinishedRows(0, nothing, nothing)
            if len(parts) == 1:
                return parts[0]
            return FinishedRows(
                parts[0].row, np.concatenate([p.mask for p in parts]), np.concatenate([p.confidence for p in parts])
            )

    def _tick(self) -> None:
        if self.on_tile:
            self.on_tile()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.counters.seconds[stage] += time.perf_counter() - start


class _Strip(TileRow):
    """A tile row on its way through the network."""

    def __init__(self, plan: TilePlan, span: Span, valid: Bool | None, number: int) -> None:
        super().__init__(plan, span, None if valid is None else valid[span.lo - span.start : span.hi - span.start])
        self.number = number
        self.pending = 0
        self.complete = False


def as_pixel(value: float | None, dtype: np.dtype[np.generic]) -> np.generic | None:
    """`value` in the pixels' own type, so that comparing converts nothing; None where no pixel can have it."""
    if value is None:
        return None
    if dtype.kind != "f":
        limits = np.iinfo(dtype)  # type: ignore[type-var]
        if value != int(value) or not limits.min <= value <= limits.max:
            return None
    return np.full(1, value, dtype)[0]  # type: ignore[no-any-return]


def as_factors(gains: Sequence[float]) -> Float32 | None:
    """(C, 1, 1) float32 of a gain for each channel; None where there are none."""
    return np.asarray(gains, np.float32)[:, None, None] if gains else None


def gather(
    rows: Pixels,
    valid: Bool | None,
    nodata: np.generic | None,
    start: int,
    tile: Float32,
    factors: Float32 | None = None,
) -> None:
    """Fill `tile` (C, T, T) float32 with the window of `rows` (C, n, W) whose first column is `start`, times
    `factors`."""
    _, tile_px, _ = tile.shape
    _, height, width = rows.shape
    small = height < tile_px or width < tile_px
    if small:
        down, across = reflect_indices(0, tile_px, height), reflect_indices(start, tile_px, width)
        rows = rows[:, down[:, None], across]
        valid = None if valid is None else valid[down[:, None], across]
    else:
        rows = rows[:, :, start : start + tile_px]
        valid = None if valid is None else valid[:, start : start + tile_px]
    if valid is None or (nodata == 0 and len(rows) == 1):
        tile[...] = rows
    else:
        np.multiply(rows, valid, out=tile, casting="unsafe")
    if len(rows) > 1 and nodata is not None and nodata != 0:
        tile[rows == nodata] = 0
    if factors is not None:
        tile *= factors


def finalise(row: int, probability: Float32, valid: Bool | None, threshold: np.float32) -> FinishedRows:
    """(n, W) float32 probability -> mask and confidence, 255 where not `valid`.

    Raises ModelError where the network answered with something that is no number.
    """
    mask, confidence = np.empty(probability.shape, np.uint8), np.empty(probability.shape, np.uint8)
    rows = max(1, _FINALISE_PIXELS // probability.shape[1])
    for first in range(0, len(probability), rows):
        part = slice(first, first + rows)
        np.greater_equal(probability[part], threshold, out=mask[part].view(bool))
        percent = probability[part] * np.float32(100)
        percent += np.float32(0.5)
        if not np.isfinite(percent.sum()):
            raise ModelError(
                "the network's answer holds NaN or infinity; expected probabilities: "
                "use the fp32 model, or export this precision again and verify it"
            )
        confidence[part] = percent
    if valid is not None:
        missing = ~valid
        np.copyto(mask, np.uint8(NODATA), where=missing)
        np.copyto(confidence, np.uint8(NODATA), where=missing)
    return FinishedRows(row, mask, confidence)
