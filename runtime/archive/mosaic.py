"""One mosaic per day and cell of a grid, of all scenes of a plan that are done.

    mosaics/GRID/DAY/xCOLUMN_yROW-DIGEST.tif

DIGEST is of the masks in it and their order: with more scenes there is another one beside it, and nothing changes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runtime.archive.archive import Archive
from runtime.archive.layout import DONE, ITEMS, json_at
from runtime.products.mosaic import Grid, write_mosaic

_AT_A_TIME = 16


class _Mask(NamedTuple):
    acquired: str
    key: str
    """Of the mask."""
    place: str


class Mosaic(NamedTuple):
    """A cell of a day."""

    place: str
    scenes: int
    outcome: str
    """`made`, `there`, or `empty` where no scene has data in the cell."""


def make_mosaics(archive: Archive, grid: Grid, progress: Callable[[int, int], None] | None = None) -> Iterator[Mosaic]:
    """Scenes without georeference or time of acquisition are left out. Raises StoreError, StoreRefused, OutputError."""
    store, cells = archive.store, _cells(archive, grid)
    there = {entry.key for entry in store.list(f"mosaics/{grid}")}
    for number, ((day, cell), masks) in enumerate(sorted(cells.items()), 1):
        ordered = sorted(masks)
        digest = hashlib.sha256("\n".join(mask.key for mask in ordered).encode()).hexdigest()[:12]
        key = f"mosaics/{grid}/{day}/x{cell[0]}_y{cell[1]}-{digest}.tif"
        outcome = "there" if key in there else _make(archive, grid, cell, ordered, key)
        if progress:
            progress(number, len(cells))
        yield Mosaic(store.url(key), len(ordered), outcome)


def _make(archive: Archive, grid: Grid, cell: tuple[int, int], masks: list[_Mask], key: str) -> str:
    with tempfile.TemporaryDirectory(prefix="sarwater-mosaic-") as folder:
        copies = [Path(folder, f"{number}.tif") for number in range(len(masks))]
        for mask, copy in zip(masks, copies, strict=True):
            archive.store.download(mask.place, copy)
        path = Path(folder, "mosaic.tif")
        tags = {"SARWATER_MOSAIC_OF": ",".join(mask.key for mask in masks)}
        if not write_mosaic(copies, grid, cell, path, tags):
            return "empty"
        archive.store.upload(path, key)
        return "made"


def _cells(archive: Archive, grid: Grid) -> dict[tuple[str, tuple[int, int]], list[_Mask]]:
    """(day, cell) -> the masks that may have data there."""
    store, cells = archive.store, defaultdict(list)
    done = [entry.key for entry in store.list(DONE) if entry.key.rpartition("/")[2] in archive.tokens]
    with ThreadPoolExecutor(_AT_A_TIME, "items") as pool:
        places = {record.get("item") for record in pool.map(partial(json_at, store), done)} - {None}
        for item in pool.map(partial(json_at, store), sorted(places)):
            if item.get("bbox") and item.get("properties", {}).get("sarwater:datetime_is") == "acquisition":
                mask, acquired = _mask_of(item), item["properties"]["datetime"]
                for cell in grid.cells(item["bbox"]):
                    cells[acquired[:10], cell].append(mask)
    return cells


def _mask_of(item: dict[str, Any]) -> _Mask:
    href = item["assets"]["water"]["href"]
    return _Mask(item["properties"]["datetime"], item["properties"]["sarwater:mask_key"], f"{ITEMS}/{href[2:]}")
