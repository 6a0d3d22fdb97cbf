"""How the answers of overlapping windows become one: the reference of every backend.

No two windows agree everywhere, for each has seen other surroundings. Where two meet they are balanced, then faded:

    window i       .....::::::[====]
    window i + 1              [====]::::::.....
                    balance_px fade  balance_px

balance   The odds p / (1 - p) of both are multiplied so that they meet halfway: within the fade in full, beyond it
          less and less. By how much is told, for every BLOCK_PX along the border, by the odds ratio of the two over
          what both answer for, sum of q (1 - p) over sum of p (1 - q): N. Mantel and W. Haenszel, "Statistical aspects
          of the analysis of data from retrospective studies of disease" (1959). What both are sure of stays as it is.
fade      A raised cosine, `TilePlan.ramp`; the falling one is `1 - ramp`.

Windows are joined from west to east, then tile rows from north to south. Sums are of integers, and each other step is
one operation in float32: every backend can do it to the same bytes.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sarwater.tiling import Span, TilePlan

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

BLOCK_PX = 96
"""The odds ratio is taken of so many pixels along a border, and is linear from one block's middle to the next."""
_ONE = 1024
"""A probability of 1, as it is summed."""
_PRIOR_SHARE = 0.01
"""Of a block's pixels, taken to be in full disagreement both ways: without much water there is nothing to balance."""
_MOST, _LEAST = np.float32(8), np.float32(1.02)
"""Odds are multiplied by at most so much, and not at all for less."""


class FinishedAnswers(NamedTuple):
    """Rows that no later tile row touches, from scene row `row` on."""

    row: int
    probability: Float32
    """(n, W) float32."""
    valid: Bool | None
    """(n, W) bool, False where nodata; None where nobody said."""


class TileRow:
    """One tile row's answers, joined from west to east as `finish` is called."""

    def __init__(self, plan: TilePlan, span: Span, valid: Bool | None) -> None:
        """`valid` (hi - lo, W) bool of the rows that `span` answers for."""
        self.span = span
        self.valid = valid
        self._plan = plan
        self._answers: Float32 = np.zeros((span.hi - span.lo, plan.width_px), np.float32)
        """Where two windows overlap, the eastern one's."""
        self._ends: list[tuple[Span, Float32]] = []
        """Each window, and what it says of its last `overlap_px` columns."""

    def add(self, column: Span, probability: Float32) -> None:
        """The (tile, tile) float32 answer of the next window to the east."""
        top, left = self.span.lo - self.span.start, column.lo - column.start
        answer = probability[top : top + self.span.hi - self.span.lo, left : left + column.hi - column.lo]
        self._answers[:, column.lo : column.hi] = answer
        self._ends.append((column, answer[:, answer.shape[1] - self._plan.overlap_px :].copy()))

    def finish(self) -> Float32:
        """(hi - lo, W) float32; 0 where there was no window."""
        overlap_px, reach_px, answers = self._plan.overlap_px, self._plan.balance_px, self._answers
        for (west, end), (east, _) in itertools.pairwise(self._ends):
            fade = slice(east.lo, east.lo + overlap_px)
            if not overlap_px or west.hi != fade.stop:
                continue  # between them are others, over nodata
            valid = None if self.valid is None else self.valid[:, fade]
            before = answers[:, max(west.lo, fade.start - reach_px) : fade.start]
            after = answers[:, fade.stop : min(fade.stop + reach_px, east.hi)]
            join(self._plan, before, end, answers[:, fade], after, valid)
        self._ends.clear()
        return self._answers


class Mosaic:
    """A scene's tile rows, joined from north to south."""

    def __init__(self, plan: TilePlan) -> None:
        self._plan = plan
        self._number = 0
        self._left: FinishedAnswers | None = None
        """What the next tile row still has a say in: `balance_px` rows, and those of the fade."""

    def push(self, tile_row: TileRow) -> list[FinishedAnswers]:
        """What is finished now, of the tile row before and of this, the next to the south."""
        plan, span, answers, valid = self._plan, tile_row.span, tile_row.finish(), tile_row.valid
        finished = []
        if self._left:
            row, left, left_valid = self._left
            count = span.lo - row
            if plan.overlap_px:
                fade, after = np.split(answers[: plan.overlap_px + plan.balance_px], [plan.overlap_px])
                known = None if valid is None else valid[: plan.overlap_px].T
                join(plan, left[:count].T, left[count:].T, fade.T, after.T, known)
            finished.append(FinishedAnswers(row, left[:count], None if left_valid is None else left_valid[:count]))
        self._number += 1
        if self._number == len(plan.rows):
            done, self._left = len(answers), None
        else:
            row = plan.rows[self._number].lo - plan.balance_px
            done = row - span.lo
            # Copies, so that the rest of the tile row need not be kept.
            self._left = FinishedAnswers(row, answers[done:].copy(), None if valid is None else valid[done:].copy())
        finished.append(FinishedAnswers(span.lo, answers[:done], None if valid is None else valid[:done]))
        return finished


def join(
    plan: TilePlan, before: Float32, end: Float32, fade: Float32, after: Float32, valid: Bool | None = None
) -> None:
    """Balance two windows and fade the one into the other, along an axis of n px.

    before: (n, up to balance_px) the first window's answers up to the fade; balanced in place.
    end:    (n, overlap_px) what the first window says within the fade.
    fade:   (n, overlap_px) what the second says there; becomes the blend.
    after:  (n, up to balance_px) the second's answers from there on; balanced in place.
    valid:  (n, overlap_px) False where nodata.
    """
    ramp = plan.ramp
    factors = odds_factors(end, fade, valid) if plan.balance_px else np.ones(1, np.float32)
    for rows in _unlike_one(factors, len(fade)):
        factor = _along(factors, rows)
        decline = plan.decline
        _approach(before[rows], factor, decline[::-1][len(decline) - before.shape[1] :])
        _approach(after[rows], np.float32(1) / factor, decline[: after.shape[1]])
        end[rows] = _multiplied(end[rows], factor)
        fade[rows] = _multiplied(fade[rows], np.float32(1) / factor)
    fade *= ramp
    fade += end * (np.float32(1) - ramp)


def odds_factors(first: Float32, second: Float32, valid: Bool | None = None) -> Float32:
    """(blocks,) float32: what the odds of `first` are multiplied by, and those of `second` divided by, to meet.

    Both are (n, w) float32 probabilities of the same pixels, n along the border; `valid` as large.
    """
    p, q = _fixed_point(first, valid), _fixed_point(second, valid)
    starts = np.arange(0, len(first), BLOCK_PX)
    both, either_p, either_q = (
        np.add.reduceat(line.astype(np.int64), starts)
        for line in (np.einsum("ij,ij->i", p, q), p.sum(axis=1), q.sum(axis=1))
    )
    prior = prior_of(first.shape[1])
    more, less = _ONE * either_q - both + prior, _ONE * either_p - both + prior
    ratio = more.astype(np.float32) / less.astype(np.float32)
    factors: Float32 = np.clip(np.sqrt(ratio), 1 / _MOST, _MOST)
    factors[(factors < _LEAST) & (factors > 1 / _LEAST)] = 1
    return factors


def prior_of(overlap_px: int) -> int:
    """What both sums of a block's begin with."""
    return int(_PRIOR_SHARE * BLOCK_PX * overlap_px * _ONE**2)


def _fixed_point(probability: Float32, valid: Bool | None) -> npt.NDArray[np.int32]:
    """0.._ONE, 0 where not valid; what is no number counts as 0, and is refused later on."""
    clipped = np.fmax(probability, np.float32(0))
    np.fmin(clipped, np.float32(1), out=clipped)
    clipped *= np.float32(_ONE)
    clipped += np.float32(0.5)
    fixed: npt.NDArray[np.int32] = clipped.astype(np.int32)
    if valid is not None:
        fixed *= valid
    return fixed


def _unlike_one(factors: Float32, length_px: int) -> list[slice]:
    """The stretches along the border that are reached by a factor other than 1: mostly there is none."""
    reached = np.pad(factors != 1, 1)
    reached = np.pad(reached[:-2] | reached[1:-1] | reached[2:], 1)
    ends = np.flatnonzero(reached[1:] != reached[:-1]).reshape(-1, 2)
    return [slice(first * BLOCK_PX, min(end * BLOCK_PX, length_px)) for first, end in ends.tolist()]


def _along(factors: Float32, rows: slice) -> Float32:
    """(rows, 1) float32: linear between the middles of the blocks."""
    last = len(factors) - 1
    position = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5)) / np.float32(BLOCK_PX)
    position = np.clip(position - np.float32(0.5), np.float32(0), np.float32(last))
    block = position.astype(np.intp)
    here, there = factors[block], factors[np.minimum(block + 1, last)]
    along: Float32 = here + (position - block.astype(np.float32)) * (there - here)
    return along[:, None]


def _multiplied(probability: Float32, factor: Float32) -> Float32:
    """The probability whose odds are `factor` times as large."""
    below = probability * (factor - np.float32(1))
    below += np.float32(1)
    result: Float32 = probability * factor
    result /= below
    return result


def _approach(probability: Float32, factor: Float32, share: Float32) -> None:
    """Go `share` of the way there, in place."""
    way = _multiplied(probability, factor)
    way -= probability
    way *= share
    probability += way
