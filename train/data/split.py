"""Training and held-out data are kept apart on the ground: what a network is scored on, it has never seen from any
tile, date or angle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import DataError, UsageError
from train.data.labelled import LabelledScene

Counts = npt.NDArray[np.int64]
"""(2, rows of a tile): water and land pixels of each."""
LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Split:
    training: tuple[LabelledScene, ...]
    held_out: tuple[LabelledScene, ...]
    dropped: tuple[LabelledScene, ...] = ()
    """Straddle the border of a held-out region, so they belong to neither."""


def split_sources(sources: Sequence[Sequence[LabelledScene]], holdout: Sequence[str]) -> list[Split]:
    """Split each source: what a val.txt named is held out, and what `holdout` names. An item is

    NAME     a whole tile
    NAME@P   the lowest P percent of its rows
    P%       a region that holds P percent of the area of each source: its southern end, or the last tiles by name where
             they are not georeferenced, for neighbours mostly have neighbouring names

    Raises UsageError for a name that no tile has.
    """
    names = {tile.name for tiles in sources for tile in tiles}
    for item in holdout:
        if not item.endswith("%") and item.partition("@")[0] not in names:
            raise UsageError(f"--holdout {item}: no such tile; there are {', '.join(sorted(names)[:10])}")
    return [_split(tiles, holdout) for tiles in sources]


def check_apart(splits: Sequence[Split]) -> None:
    """Raises DataError where a training tile lies on the ground of a held-out one, of the same source or another."""
    training = [tile for split in splits for tile in split.training]
    held_out = [tile for split in splits for tile in split.held_out]
    for tile, other in zip(training, _overlapped(training, held_out), strict=True):
        if other:
            raise DataError(
                f"{tile.image} overlaps the held-out {other.image} on the ground; hold out both "
                f"(--holdout {tile.name}), or a region (--holdout 20%)"
            )


def choose_split(tiles: Sequence[LabelledScene], water: Mapping[str, Counts], least_px: int) -> Split:
    """Hold out a part of one source's tiles that names none itself: the smallest region that will do, else a tile, else
    the lower rows of one. Both sides must have LEAST_SHARE of the water and of the land, or their scores and losses
    would say little; parts of a scene are at least
    `least_px` high and wide, whole scenes of any size. `water` has the counts of each scene by its name.

    Raises DataError where no such part is found.
    """
    named = tuple(tile for tile in tiles if tile.held_out)
    if named:
        split = Split(tuple(tile for tile in tiles if not tile.held_out), named)
        check_apart([split])
        return split
    regions = [f"{percent}%" for percent in (20, 30, 40, 50)]
    whole = [tile.name for tile in tiles]
    parts = [f"{tile.name}@{percent}" for percent in (30, 40, 50) for tile in tiles]
    least = LEAST_SHARE * sum(counts.sum(axis=1) for counts in water.values())
    for item in (*regions, *whole, *parts):
        (split,) = split_sources([tiles], [item])
        useful = all(_is_useful(side, water, least, least_px) for side in (split.training, split.held_out))
        if useful and not any(_overlapped(split.training, split.held_out)):
            return split
    raise DataError(
        f"{tiles[0].image.parent}: {len(tiles)} tile(s), and none of them, nor a part of one, can be held out so that "
        f"both what is trained on and what is held out have {LEAST_SHARE:.0%} of the water and of the land, and a "
        f"part of a scene {least_px} px each way; label more or larger scenes, or say in a val.txt which to hold out"
    )


def _is_useful(
    tiles: Sequence[LabelledScene], water: Mapping[str, Counts], least: npt.NDArray[Any], least_px: int
) -> bool:
    cut = [min(tile.width_px, tile.rows_px) for tile in tiles if tile.rows_px < tile.height_px]
    if not tiles or min(cut, default=least_px) < least_px:
        return False
    counts = sum(water[tile.name][:, slice(*tile.rows)].sum(axis=1) for tile in tiles)
    return bool(np.all(counts >= least))


def _split(tiles: Sequence[LabelledScene], holdout: Sequence[str]) -> Split:
    split = Split(tuple(t for t in tiles if not t.held_out), tuple(t for t in tiles if t.held_out))
    for item in holdout:
        if item.endswith("%"):
            split = _without_region(split, _percent(item, item[:-1]))
        else:
            name, _, percent = item.partition("@")
            split = _without_tile(split, name, _percent(item, percent) if percent else None)
    return split


def _without_tile(split: Split, name: str, percent: float | None) -> Split:
    training, held_out = [], list(split.held_out)
    for tile in split.training:
        if tile.name != name:
            training.append(tile)
        elif percent is None:
            held_out.append(tile)
        else:
            upper, lower = _cut(tile, percent)
            training.append(upper)
            held_out.append(lower)
    return replace(split, training=tuple(training), held_out=tuple(held_out))


def _without_region(split: Split, percent: float) -> Split:
    if len(split.training) < 2:
        return _without_tile(split, split.training[0].name, percent) if split.training else split
    region = _region(split.training, percent)
    chosen = set(region)
    rest = [tile for tile in split.training if tile not in chosen]
    others = _overlapped(rest, region)
    training = tuple(tile for tile, other in zip(rest, others, strict=True) if other is None)
    dropped = tuple(tile for tile, other in zip(rest, others, strict=True) if other is not None)
    return Split(training, (*split.held_out, *region), (*split.dropped, *dropped))


def _percent(item: str, number: str) -> float:
    try:
        percent = float(number)
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise UsageError(f"--holdout {item}: expected a number of percent between 0 and 100")
    return percent


def _region(tiles: Sequence[LabelledScene], percent: float) -> list[LabelledScene]:
    crs = {tile.extent.crs if tile.extent else None for tile in tiles}
    if len(crs) == 1 and None not in crs:
        ordered = sorted(tiles, key=lambda tile: (_bounds(tile)[1], tile.name))
    else:
        ordered = sorted(tiles, key=lambda tile: tile.name, reverse=True)
    areas = np.cumsum([tile.area_px for tile in ordered])
    count = int(np.searchsorted(areas, areas[-1] * percent / 100)) + 1
    return ordered[: min(count, len(tiles) - 1)]


def _cut(tile: LabelledScene, percent: float) -> tuple[LabelledScene, LabelledScene]:
    """(upper, lower): no window ever straddles the cut."""
    first, last = tile.rows
    cut = round(last - tile.rows_px * percent / 100)
    return replace(tile, rows=(first, cut)), replace(tile, rows=(cut, last))


def _overlapped(tiles: Iterable[LabelledScene], others: Sequence[LabelledScene]) -> list[LabelledScene | None]:
    """For each tile one of `others` that it shares ground with, or None."""
    crs = [other.extent.crs if other.extent else None for other in others]
    west, south, east, north = np.array([_bounds(other) for other in others]).reshape(-1, 4).T
    found: list[LabelledScene | None] = []
    for tile in tiles:
        mine = _bounds(tile)
        # Bounds without a reference system are NaN, which is neither below nor above anything.
        meets = (mine[0] < east) & (west < mine[2]) & (mine[1] < north) & (south < mine[3])
        meets &= np.array([tile.extent is not None and tile.extent.crs == other for other in crs], bool)
        found.append(others[int(np.argmax(meets))] if meets.any() else None)
    return found


def _bounds(tile: LabelledScene) -> tuple[float, float, float, float]:
    """(west, south, east, north) of the tile's own rows; NaN where it is not georeferenced."""
    if tile.extent is None:
        return (np.nan,) * 4
    extent = tile.extent
    row_height = (extent.north - extent.south) / tile.height_px
    first, last = tile.rows
    return extent.west, extent.north - last * row_height, extent.east, extent.north - first * row_height
