"""Where the network's windows lie in a scene, and where their answers meet (how: sarwater/blending.py).

Along each axis the windows are spread evenly from edge to edge, so only a scene smaller than one tile is ever
padded. Neighbours overlap by at least `overlap_px`; the cross-fade between them is always exactly `overlap_px`
long and centred in their overlap, so each pixel is answered by at most two windows per axis. Spread windows mostly
share more than they have to, and `with_wide_fades` uses all of it.

    window i      |------------[====]-----|
    window i+1           |-----[====]------------|
                               ramp, overlap_px long

Where a tile row's measurements begin or end inside the scene, as at the slanting edges of the valid extent, its
windows are spread over them alone (`columns_between`): a window that shows little else than nodata has little to go by.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

WORTH_TILES = 2
"""What a network costs to be made ready for another tile size, in tiles inferred."""
STRIP_PX = 28_000_000
"""Memory grows with the tile's height times the scene's width; 1024 px times 27,000 px is the measure."""
WORTH_SHARE = 0.01
"""By how much a scene may cost more for larger tiles."""


@dataclass(frozen=True)
class Span:
    """One window along one axis, in scene pixels. It reads [start, start + tile_px) and answers for [lo, hi).

    `lo..hi` lies inside the scene and inside the window; beyond, what it says is not used.
    """

    start: int
    lo: int
    hi: int


@dataclass(frozen=True)
class TilePlan:
    """The windows of one scene of `height_px` x `width_px`.

    Raises ValueError for sizes below 1 px or an overlap that leaves no room for a core (it must be even and at
    most a third of the tile).
    """

    height_px: int
    width_px: int
    tile_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px, self.tile_px) < 1:
            raise ValueError(f"scene {self.width_px} x {self.height_px}, tile {self.tile_px} px: expected at least 1")
        if self.overlap_px < 0 or self.overlap_px % 2 or self.overlap_px * 3 > self.tile_px:
            raise ValueError(
                f"overlap {self.overlap_px} px: expected an even number up to a third of the tile, {self.tile_px // 3}"
            )

    @classmethod
    def fitted(cls, height_px: int, width_px: int, tile_px: int, overlap_px: int, step_px: int) -> TilePlan:
        """The plan that computes least, with tiles of 3/4 to 5/4 of `tile_px`, `step_px` apart; for networks of any
        size that is a multiple of it.

        Nine tiles of 1024 px across a scene of 8192 px overlap by 128 px, seven of 1216 px by 53. A smaller tile has to
        save WORTH_TILES full ones; a row of larger ones has to stay below STRIP_PX. Of plans that cost the same within
        WORTH_SHARE it is the one with the largest tiles: what a window shows decides what a network takes for water, so
        fewer borders make a better mask.
        """
        full = cls(height_px, width_px, tile_px, overlap_px)
        most_px = full.computed_px - WORTH_TILES * tile_px**2
        reach = tile_px // 4 // step_px
        sizes_px = [tile_px + step * step_px for step in range(-reach, reach + 1) if step]
        others = [cls(height_px, width_px, size_px, overlap_px) for size_px in sizes_px if size_px >= 3 * overlap_px]
        smaller = [plan for plan in others if plan.tile_px < tile_px and plan.computed_px <= most_px]
        larger = [plan for plan in others if plan.tile_px > tile_px and plan.tile_px * width_px <= STRIP_PX]
        plans = [*smaller, full, *larger]
        least_px = min(plan.computed_px for plan in plans)
        return [plan for plan in plans if plan.computed_px <= (1 + WORTH_SHARE) * least_px][-1]

    def with_wide_fades(self) -> TilePlan:
        """The same windows, cross-faded over all that neighbours share: the slower the change from one window's answer
        to the next, the less of it can be seen, and nothing more is computed (but `columns_between` reaches further
        beyond the slanting edge of the valid extent)."""
        shared_px = [
            before.start + self.tile_px - after.start
            for spans in (self.rows, self.columns)
            for before, after in itertools.pairwise(spans)
        ]
        return replace(self, overlap_px=min([*shared_px, self.tile_px // 3]) // 2 * 2) if shared_px else self

    @cached_property
    def rows(self) -> tuple[Span, ...]:
        """Tile rows from north to south."""
        return _spans(self.height_px, self.tile_px, self.overlap_px)

    @cached_property
    def columns(self) -> tuple[Span, ...]:
        """Tile columns from west to east."""
        return _spans(self.width_px, self.tile_px, self.overlap_px)

    def columns_between(self, first_px: int, end_px: int) -> tuple[Span, ...]:
        """The columns of a tile row that is nodata but for [first_px, end_px), at most as many as `columns`.

        They reach `overlap_px` beyond it to either side.
        """
        lo, hi = max(0, first_px - self.overlap_px), min(self.width_px, end_px + self.overlap_px)
        if (lo, hi) == (0, self.width_px):
            return self.columns
        if hi - lo > self.tile_px:
            spans = _spans(hi - lo, self.tile_px, self.overlap_px)
            return tuple(Span(lo + span.start, lo + span.lo, lo + span.hi) for span in spans)
        start = min(max(0, (lo + hi - self.tile_px) // 2), max(0, self.width_px - self.tile_px))
        return (Span(start, lo, hi),)

    @property
    def tiles(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def computed_px(self) -> int:
        return self.tiles * self.tile_px**2

    @property
    def waste(self) -> float:
        """Computed pixels over scene pixels, at least 1."""
        return self.computed_px / (self.height_px * self.width_px)

    @cached_property
    def ramp(self) -> Float32:
        """The rising half of a cross-fade, (overlap_px,) float32; the falling one is `1 - ramp`."""
        return _raised_cosine(self.overlap_px)

    @property
    def balance_px(self) -> int:
        """How far to either side of a fade two windows are balanced: to the next fade at most half the way.

        0, not at all, where fades are as wide as that, or there are none.
        """
        reach_px = (self.tile_px - 3 * self.overlap_px) // 4 - 1
        return reach_px if reach_px >= self.overlap_px > 0 else 0

    @cached_property
    def decline(self) -> Float32:
        """How much of the balance is left with growing distance from a fade, (balance_px,) float32 from 1 to 0."""
        return np.ascontiguousarray(_raised_cosine(self.balance_px)[::-1])


def _spans(length_px: int, tile_px: int, overlap_px: int) -> tuple[Span, ...]:
    if length_px <= tile_px:
        return (Span(0, 0, length_px),)
    count = -(-(length_px - overlap_px) // (tile_px - overlap_px))
    starts = [(length_px - tile_px) * i // (count - 1) for i in range(count)]
    # The middle of the overlap between window i and i + 1.
    cuts = [(after + before + tile_px) // 2 for before, after in itertools.pairwise(starts)]
    half = overlap_px // 2
    los = [0, *(cut - half for cut in cuts)]
    his = [*(cut + half for cut in cuts), length_px]
    return tuple(Span(*span) for span in zip(starts, los, his, strict=True))


def _raised_cosine(length_px: int) -> Float32:
    """From 0 to 1, (length_px,) float32."""
    phase = (np.arange(length_px) + 0.5) / max(length_px, 1)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


def reflect_indices(start: int, count: int, length: int) -> npt.NDArray[np.intp]:
    """Scene indices for window positions [start, start + count), mirrored at the edges without repeating them.

    As `numpy.pad(mode="reflect")`, also where the window is several times as long as the scene; a scene of one
    pixel repeats that pixel. (count,) intp.
    """
    if length == 1:
        return np.zeros(count, np.intp)
    period = 2 * (length - 1)
    position = np.arange(start, start + count) % period
    return np.where(position < length, position, period - position).astype(np.intp)
