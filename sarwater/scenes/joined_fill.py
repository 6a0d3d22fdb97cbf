"""Fill that no straight row or column joins to the edge of the scene: it lies round a corner, as in an L, or in a notch
that widens.

Zeros of calm water touch each other, too, and a chain of them may lead to the edge. So only solid fill is followed:
cells of 6 x 6 px that hold nothing, joined to the edge by cells of their kind. Where nine in ten pixels of water are
zero, one cell in fifty is empty, and no chain of such leads far. The rest of the fill, along its outline, is what zeros
join to those cells within three of them.

All of a scene is looked at once, a row of cells at a time; what is kept is where runs of empty cells begin and end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sarwater.request import Window

Bool = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]
Edges = tuple[Places, Places]
"""Of each row, or column, the first pixel with an echo and the one after the last."""

CELL_PX = 6
REACH_PX = 3 * CELL_PX


def empty_cells(empty: Bool) -> Bool:
    """(H, W) -> (rows, columns) of cells that hold nothing; those at the end may be smaller."""
    height, width = empty.shape
    padded = np.ones((_cells(height) * CELL_PX, _cells(width) * CELL_PX), bool)
    padded[:height, :width] = empty
    rows = np.logical_and.reduce([padded[number::CELL_PX] for number in range(CELL_PX)])
    return np.asarray(np.logical_and.reduce([rows[:, number::CELL_PX] for number in range(CELL_PX)]))


def holds_empty_cell(empty: Bool, window: Window) -> bool:
    """Whether (H, W) of `window` holds all of a cell, and that holds nothing."""
    across, down = (
        slice(-start % CELL_PX, length - (start + length) % CELL_PX)
        for start, length in ((window.x_px, window.width_px), (window.y_px, window.height_px))
    )
    whole = empty[down, across] if min(across.stop - across.start, down.stop - down.start) > 0 else empty[:0]
    return bool(whole.size and empty_cells(whole).any())


@dataclass(frozen=True, eq=False)
class JoinedFill:
    """The cells of a scene that are joined to its edge, but for those that straight rows and columns tell."""

    runs: Sequence[Edges]
    """Of each row of cells, where runs begin and end."""

    def cells(self, window: Window) -> Bool:
        """(H, W) of `window`, True in the cells."""
        down, across = (
            slice(start // CELL_PX, _cells(start + length))
            for start, length in ((window.y_px, window.height_px), (window.x_px, window.width_px))
        )
        steps = np.zeros((down.stop - down.start, across.stop - across.start + 1), np.int8)
        for row, (starts, ends) in zip(steps, self.runs[down], strict=True):
            np.add.at(row, np.clip(starts, across.start, across.stop) - across.start, 1)
            np.subtract.at(row, np.clip(ends, across.start, across.stop) - across.start, 1)
        inside = np.cumsum(steps, axis=1)[:, :-1] > 0
        pixels: Bool = inside.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
        y_px, x_px = window.y_px % CELL_PX, window.x_px % CELL_PX
        return pixels[y_px : y_px + window.height_px, x_px : x_px + window.width_px]


def grown(fill: Bool, empty: Bool) -> Bool:
    """(H, W) `fill` and what is `empty` and joined to it within REACH_PX steps."""
    result: Bool = fill.copy()
    part = tuple(
        slice(max(0, int(places[0]) - REACH_PX), int(places[-1]) + REACH_PX + 1)
        for places in (np.flatnonzero(fill.any(axis=1)), np.flatnonzero(fill.any(axis=0)))
    )
    core, within = result[part], empty[part]
    for _ in range(REACH_PX):
        wider = core.copy()
        wider[1:] |= core[:-1]
        wider[:-1] |= core[1:]
        wider[:, 1:] |= core[:, :-1]
        wider[:, :-1] |= core[:, 1:]
        wider &= within
        wider |= core
        core = wider
    result[part] = core
    return result


@dataclass
class CellRows:
    """Takes down the empty cells of a scene, from its first row to its last."""

    _runs: list[Edges] = field(default_factory=list)
    _rest: Bool | None = None

    def add(self, empty: Bool) -> None:
        """The next rows, (H, W), as many as there are."""
        if self._rest is not None:
            empty = np.concatenate([self._rest, empty])
        whole = len(empty) // CELL_PX * CELL_PX
        self._take_down(empty[:whole])
        self._rest = empty[whole:].copy()

    def joined(self, columns: Edges, rows: Edges, all_of_it: bool = False) -> JoinedFill | None:
        """What is joined to the edge of the scene, or `all_of_it`, now that all of it was added; `columns` are measured
        in each of its rows (H,), and `rows` in each of its columns (W,). None where straight rows and columns tell all
        of it."""
        if self._rest is not None and len(self._rest):
            self._take_down(self._rest)
            self._rest = None
        straight = _Straight.of(columns, rows)
        begun = [straight.touches(number, *runs) | all_of_it for number, runs in enumerate(self._runs)]
        reached = begun if all_of_it else _reached(self._runs, begun)
        hidden = [
            straight.hidden(number, starts[joined], ends[joined])
            for number, ((starts, ends), joined) in enumerate(zip(self._runs, reached, strict=True))
        ]
        return JoinedFill(hidden) if any(starts.size for starts, _ in hidden) else None

    def _take_down(self, empty: Bool) -> None:
        self._runs += [_runs_of(row) for row in empty_cells(empty)] if len(empty) else []


@dataclass(frozen=True, eq=False)
class _Straight:
    """How far straight rows and columns of nothing reach into the scene from its edges, at each row and column of
    cells: the most and the least of its pixels."""

    size_px: tuple[int, int]
    left: Edges
    right: Edges
    top: Edges
    bottom: Edges

    @classmethod
    def of(cls, columns: Edges, rows: Edges) -> _Straight:
        size_px = len(columns[0]), len(rows[0])
        return cls(size_px, *(_most_and_least(places) for places in (*columns, *rows)))

    def touches(self, row: int, starts: Places, ends: Places) -> Bool:
        """Whether runs of a row of cells hold a pixel that a straight row or column leads to."""
        height, width = self.size_px
        found = starts * CELL_PX < self.left[0][row]
        found |= np.minimum(ends * CELL_PX, width) > self.right[1][row]
        if starts.size:
            pairs = np.stack([starts, ends], axis=1).ravel()
            most = np.maximum.reduceat(np.append(self.top[0], 0), pairs)[::2]
            least = np.minimum.reduceat(np.append(self.bottom[1], height), pairs)[::2]
            found |= (most > row * CELL_PX) | (least < min((row + 1) * CELL_PX, height))
        return np.asarray(found)

    def hidden(self, row: int, starts: Places, ends: Places) -> Edges:
        """The runs, without the cells that one straight way tells wholly."""
        height, width = self.size_px
        steps = np.zeros(len(self.top[0]) + 1, np.int8)
        steps[starts], steps[ends] = 1, -1
        cells = np.cumsum(steps)[:-1] > 0
        begins = np.arange(cells.size) * CELL_PX
        cells &= (np.minimum(begins + CELL_PX, width) > self.left[1][row]) & (begins < self.right[0][row])
        cells &= (min((row + 1) * CELL_PX, height) > self.top[1]) & (row * CELL_PX < self.bottom[0])
        return _runs_of(cells)


def _most_and_least(places: Places) -> Edges:
    starts = np.arange(0, len(places), CELL_PX)
    return np.maximum.reduceat(places, starts), np.minimum.reduceat(places, starts)


def _cells(length_px: int) -> int:
    return -(-length_px // CELL_PX)


def _runs_of(row: Bool) -> Edges:
    """Starts of the runs of True in (W,), and the places after their ends."""
    changes = np.flatnonzero(np.diff(row, prepend=False, append=False))
    return changes[::2], changes[1::2]


def _reached(runs: Sequence[Edges], begun: Sequence[Bool]) -> list[Bool]:
    """Which runs of each row are joined to one of those that are `begun`, by runs that lie above each other."""
    first = np.cumsum([0, *(len(starts) for starts, _ in runs)])
    label = np.arange(first[-1])
    above, below = _pairs(runs, first)
    while above.size and (label[above] != label[below]).any():
        roots = label[above], label[below]
        for root in roots:
            np.minimum.at(label, root, np.minimum(*roots))
        while not np.array_equal(label, hop := label[label]):
            label = hop
    joined = np.isin(label, label[np.concatenate(begun)]) if begun else np.empty(0, bool)
    return np.split(joined, first[1:-1])


def _pairs(runs: Sequence[Edges], first: Places) -> Edges:
    """Numbers of the runs that lie above each other."""
    pairs: list[Edges] = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    for row in range(1, len(runs)):
        (starts_above, ends_above), (starts, ends) = runs[row - 1 : row + 1]
        low = np.searchsorted(ends_above, starts, side="right")
        count = np.searchsorted(starts_above, ends, side="left") - low
        below = np.repeat(np.arange(len(starts)), count)
        above = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
        pairs.append((above + first[row - 1], below + first[row]))
    upper, lower = zip(*pairs, strict=True)
    return np.concatenate(upper), np.concatenate(lower)
