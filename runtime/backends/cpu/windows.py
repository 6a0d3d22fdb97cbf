"""Which windows of a tile row the network has to answer: the same for every backend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sarwater.tiling import Span, TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

_PIECE_PX = 512
"""How wide a piece is looked at in the search for the first and last measurement: most scenes need two."""
_SPARSE_PX = 16
"""Every how many pixels a window is looked at before all of it is, to see whether it holds any measurement."""


def windows_with_data(
    plan: TilePlan, span: Span, rows: Pixels, valid: Bool | None, nodata: np.generic | None
) -> list[Span]:
    """The windows of the tile row `span`, west to east: spread between its first and its last measured column, and
    without those whose answer would fall on nodata alone.

    `rows` (C, n, W) and `valid` (n, W) begin at `span.start`. Where `valid` is None, a pixel is nodata where every
    channel equals `nodata`, and none is where that is None.
    """
    if valid is None and nodata is None:
        return list(plan.columns)
    row = _TileRow(span, rows, valid, nodata)
    pieces = [slice(x, min(x + _PIECE_PX, plan.width_px)) for x in range(0, plan.width_px, _PIECE_PX)]
    west = next((piece for piece in pieces if row.any(piece)), None)
    if west is None:
        return []
    east = next(piece for piece in reversed(pieces) if row.any(piece))
    first_px = west.start + int(row.measured(west).argmax())
    end_px = east.stop - int(row.measured(east)[::-1].argmax())
    columns = plan.columns_between(first_px, end_px)
    return [column for column in columns if row.any(slice(column.lo, column.hi))]


class _TileRow:
    """The rows that a tile row answers for."""

    def __init__(self, span: Span, rows: Pixels, valid: Bool | None, nodata: np.generic | None) -> None:
        answered = slice(span.lo - span.start, span.hi - span.start)
        self._pixels = rows[:, answered]
        self._valid = None if valid is None else valid[answered]
        self._nodata = nodata

    def measured(self, columns: slice) -> Bool:
        """(n,) True for each column with a measurement."""
        if self._valid is not None:
            return np.asarray(self._valid[:, columns].any(axis=0))
        return np.asarray((self._pixels[:, :, columns] != self._nodata).any(axis=(0, 1)))

    def any(self, columns: slice) -> bool:
        """Looks at all pixels only where a few are all nodata."""
        if self._valid is not None:
            return bool(self._valid[:, columns].any())
        pixels = self._pixels[:, :, columns]
        few = pixels[:, ::_SPARSE_PX, ::_SPARSE_PX]
        return bool((few != self._nodata).any() or (pixels != self._nodata).any())
