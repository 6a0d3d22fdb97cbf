"""Training and held-out data are kept apart on the ground: what a network is scored on, it has never seen from any
tile, date or angle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sarwater.errors import DataError, UsageError
from train.tiles import Tile


@dataclass(frozen=True)
class Split:
    training: tuple[Tile, ...]
    held_out: tuple[Tile, ...]
    dropped: tuple[Tile, ...] = ()
    """Straddle the border of a held-out region, so they belong to neither."""


def split_tiles(tiles: Sequence[Tile], holdout: Sequence[str]) -> Split:
    """Hold out what a val.txt named and what `holdout` names.

    An item is `NAME`, a whole tile; `NAME@P`, the lowest P percent of its rows; or `P%`, a region that holds P percent
    of the area: the southern end of the tiles, or the last of them by name where they are not georeferenced, for tiles
    of neighbouring names are neighbours, too.

    Raises UsageError for a name that no tile has, DataError where training tiles overlap held-out ones on the ground.
    """
    training = {tile.name: tile for tile in tiles if not tile.held_out}
    held_out = [tile for tile in tiles if tile.held_out]
    dropped: list[Tile] = []
    for item in holdout:
        if item.endswith("%"):
            region = _region(list(training.values()), _percent(item, item[:-1]))
            for tile in region:
                if training[tile.name].area_px == tile.area_px:
                    del training[tile.name]
                else:  # a tile by itself was cut in two
                    training[tile.name] = _with_rows(training[tile.name], 0, tile.rows[0])
            others = _overlapped(training.values(), region)
            straddling = [tile for tile, other in zip(training.values(), others, strict=True) if other]
            dropped += straddling
            for tile in straddling:
                del training[tile.name]
            held_out += region
        else:
            name, _, percent = item.partition("@")
            tile = training.pop(name, None)
            if tile is None:
                raise UsageError(f"--holdout {item}: no such tile; there are {', '.join(t.name for t in tiles[:10])}")
            if percent:
                training[name], tile = _cut(tile, _percent(item, percent))
            held_out.append(tile)
    for tile, other in zip(training.values(), _overlapped(training.values(), held_out), strict=True):
        if other:
            raise DataError(
                f"{tile.image} overlaps the held-out {other.image} on the ground; hold out both "
                f"(--holdout {tile.name}), or a region (--holdout 20%)"
            )
    return Split(tuple(training.values()), tuple(held_out), tuple(dropped))


def _percent(item: str, number: str) -> float:
    try:
        percent = float(number)
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise UsageError(f"--holdout {item}: expected a number of percent between 0 and 100")
    return percent


def _region(tiles: list[Tile], percent: float) -> list[Tile]:
    if len(tiles) == 1:
        return [_cut(tiles[0], percent)[1]]
    crs = {tile.extent.crs if tile.extent else None for tile in tiles}
    if len(crs) == 1 and None not in crs:
        ordered = sorted(tiles, key=lambda tile: (tile.extent.south, tile.name))  # type: ignore[union-attr]
    else:
        ordered = sorted(tiles, key=lambda tile: tile.name, reverse=True)
    areas = np.cumsum([tile.area_px for tile in ordered])
    count = int(np.searchsorted(areas, areas[-1] * percent / 100)) + 1
    return ordered[: min(count, len(tiles) - 1)]


def _cut(tile: Tile, percent: float) -> tuple[Tile, Tile]:
    """(upper, lower): no window ever straddles the cut."""
    first, last = tile.rows
    cut = round(last - tile.rows_px * percent / 100)
    return _with_rows(tile, first, cut), _with_rows(tile, cut, last)


def _with_rows(tile: Tile, first: int, last: int) -> Tile:
    return replace(tile, rows=(first, last))


def _overlapped(tiles: Iterable[Tile], others: Sequence[Tile]) -> list[Tile | None]:
    """For each tile one of `others` that it shares ground with, or None."""
    crs = [other.extent.crs if other.extent else None for other in others]
    west, south, east, north = np.array([_bounds(other) for other in others]).reshape(-1, 4).T
    found: list[Tile | None] = []
    for tile in tiles:
        mine = _bounds(tile)
        # Bounds without a reference system are NaN, which is neither below nor above anything.
        meets = (mine[0] < east) & (west < mine[2]) & (mine[1] < north) & (south < mine[3])
        meets &= np.array([tile.extent is not None and tile.extent.crs == other for other in crs], bool)
        found.append(others[int(np.argmax(meets))] if meets.any() else None)
    return found


def _bounds(tile: Tile) -> tuple[float, float, float, float]:
    """(west, south, east, north) of the tile's own rows; NaN where it is not georeferenced."""
    if tile.extent is None:
        return (np.nan,) * 4
    extent = tile.extent
    row_height = (extent.north - extent.south) / tile.height_px
    first, last = tile.rows
    return extent.west, extent.north - last * row_height, extent.east, extent.north - first * row_height
