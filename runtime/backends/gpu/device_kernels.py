"""The kernels of scene.cu as calls: addresses, counts and grids of each launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.backends.gpu.device import Device
from runtime.backends.gpu.memory import COLUMN_BYTES, RESULT_HEAD_BYTES, Half, SceneMemory
from sarwater.blending import prior_of
from sarwater.manifest import MOST_CHANNELS
from sarwater.tiling import Span, TilePlan

# The `rules` of scene.cu.
_BLANK_INVALID, _BLANK_NODATA, _HAS_NODATA = 1, 2, 4


@dataclass(frozen=True)
class Strip:
    """A tile row on the device."""

    span: Span
    columns: tuple[Span, ...]
    """The windows that are inferred, west to east."""
    half: Half
    valid: int
    """Address of the validity ring; 0 where nodata alone decides."""
    done_from: int
    done_to: int
    """The scene rows that are finished with this tile row."""

    @property
    def rows_px(self) -> int:
        """Height of what it answers for."""
        return self.span.hi - self.span.lo


class SceneKernels:
    """For one scene. Every call goes into the compute stream and returns at once.

    `nodata` is a value of the pixels' own type; None where no pixel is nodata. `gains`: one for each channel, or none.
    """

    def __init__(
        self,
        device: Device,
        plan: TilePlan,
        memory: SceneMemory,
        nodata: np.generic | None,
        gains: Sequence[float] = (),
    ) -> None:
        self._device = device
        self._plan = plan
        self._memory = memory
        self._nodata = nodata
        self._gains = tuple(np.float32(gain) for gain in (*gains, *(1.0,) * (MOST_CHANNELS - len(gains))))
        self._fade = _ints(plan.overlap_px, plan.balance_px, prior_of(plan.overlap_px))

    def clear(self, strip: Strip) -> None:
        """Where no window answers, the answer is 0."""
        self._device.fill(strip.half.answers, 0, strip.rows_px * self._plan.width_px * 4, self._device.compute)

    def gather(self, strip: Strip, first: int, count: int, tiles: int) -> None:
        """The pixels of the strip's windows from number `first` on, to the address `tiles`."""
        plan, memory = self._plan, self._memory
        self._launch_over_ring(
            "gather",
            strip,
            (plan.tile_px, plan.tile_px, count * memory.channels),
            *_addresses(tiles, memory.ring, strip.valid, strip.half.columns + COLUMN_BYTES * first),
            *_ints(count, plan.tile_px, strip.span.start, plan.height_px),
            *self._gains,
        )

    def place(self, strip: Strip, first: int, count: int, answers: int) -> None:
        """What the network said of these windows, at the address `answers`, to its place in the strip."""
        plan = self._plan
        ends = self._memory.ends + 4 * first * strip.rows_px * plan.overlap_px
        self._launch(
            "place",
            (min(plan.width_px, count * plan.tile_px), strip.rows_px, 1),
            *_addresses(strip.half.answers, ends, answers, strip.half.columns + COLUMN_BYTES * first),
            *_ints(count, plan.tile_px, plan.overlap_px, strip.span.start, strip.span.lo, strip.span.hi, plan.width_px),
        )

    def join_columns(self, strip: Strip) -> None:
        """The strip's windows with each other, as blending.TileRow does."""
        plan, memory, borders = self._plan, self._memory, len(strip.columns) - 1
        if not plan.overlap_px or borders < 1:
            return
        answers, columns = _addresses(strip.half.answers, memory.ends), _addresses(strip.half.columns)
        if plan.balance_px:
            self._device.fill(memory.odds, 0, memory.column_odds_bytes, self._device.compute)
            self._launch_over_ring(
                "compare_columns",
                strip,
                (strip.rows_px, 1, borders),
                *_addresses(memory.odds),
                *answers,
                *_addresses(memory.ring, strip.valid),
                *columns,
                *_ints(borders, plan.overlap_px, strip.span.lo, strip.span.hi),
            )
        self._launch(
            "join_columns",
            (plan.overlap_px + 2 * plan.balance_px, strip.rows_px, borders),
            *answers,
            *_addresses(memory.odds),
            *columns,
            *_addresses(memory.ramp, memory.decline),
            *_ints(borders),
            *self._fade,
            *_ints(strip.rows_px, plan.width_px),
        )

    def join_rows(self, north: Strip, strip: Strip) -> None:
        """The strip with the one to the north, as blending.Mosaic does."""
        plan, memory = self._plan, self._memory
        if not plan.overlap_px:
            return
        left, south = self._left(north, strip), strip.half.answers
        if plan.balance_px:
            self._device.fill(memory.odds, 0, memory.row_odds_bytes, self._device.compute)
            self._launch_over_ring(
                "compare_rows",
                strip,
                (plan.width_px, 1, 1),
                *_addresses(memory.odds, left + 4 * plan.balance_px * plan.width_px, south, memory.ring, strip.valid),
                *_ints(plan.overlap_px, strip.span.lo),
            )
        self._launch(
            "join_rows",
            (plan.width_px, plan.overlap_px + 2 * plan.balance_px, 1),
            *_addresses(left, south, memory.odds, memory.ramp, memory.decline),
            *self._fade,
            *_ints(strip.rows_px, plan.width_px),
        )

    def finalise(self, north: Strip | None, strip: Strip, threshold: np.float32) -> None:
        """Mask and confidence of the rows that are finished with the strip, behind the flag in `strip.half.result`."""
        plan, memory, half = self._plan, self._memory, strip.half
        rows_px = strip.done_to - strip.done_from
        mask = half.result + RESULT_HEAD_BYTES
        left = self._left(north, strip) if north else 0
        self._device.fill(half.result, 0, RESULT_HEAD_BYTES, self._device.compute)
        self._launch_over_ring(
            "finalise",
            strip,
            (plan.width_px, rows_px, 1),
            *_addresses(mask, mask + rows_px * plan.width_px, half.result, half.answers, left),
            *_addresses(memory.ring, strip.valid),
            threshold,
            *_ints(strip.done_from, strip.done_to, strip.span.lo - strip.done_from),
        )

    def _left(self, north: Strip, strip: Strip) -> int:
        """Address of the rows that the strip to the north has left over."""
        return north.half.answers + 4 * (strip.done_from - north.span.lo) * self._plan.width_px

    def _launch_over_ring(self, kernel: str, strip: Strip, pixels: tuple[int, int, int], *arguments: Any) -> None:
        """A kernel that has a form for every type of pixel, and looks at which of them are valid."""
        memory, rules = self._memory, _rules(self._nodata, self._memory.channels, bool(strip.valid))
        ring = _ints(memory.channels, memory.ring_rows, self._plan.width_px, rules)
        nodata = np.float32(0 if self._nodata is None else self._nodata)
        self._launch(f"{kernel}_{memory.dtype}", pixels, *arguments, *ring, nodata)

    def _launch(self, kernel: str, pixels: tuple[int, int, int], *arguments: Any) -> None:
        self._device.launch(kernel, pixels, arguments, self._device.compute)


def _rules(nodata: np.generic | None, channels: int, valid_given: bool) -> int:
    """Which pixels enter the network as 0, as in host.gather."""
    rules = 0
    if nodata is not None:
        rules |= _HAS_NODATA
    if (valid_given or nodata is not None) and not (nodata == 0 and channels == 1):
        rules |= _BLANK_INVALID
    if nodata is not None and nodata != 0 and channels > 1:
        rules |= _BLANK_NODATA
    return rules


def _addresses(*values: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(value) for value in values)


def _ints(*values: int) -> tuple[np.int32, ...]:
    return tuple(np.int32(value) for value in values)
