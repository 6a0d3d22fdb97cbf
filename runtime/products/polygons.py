"""Water bodies as polygons in a GeoPackage, made while the rows arrive.

Rows are polygonised in strips, some of them beside each other, and joined from north to south. A body that ends inside
its strip is written at once; one that reaches the strip's edge waits, in pieces, until the rows that continue it have
been seen, and is then joined. All of that happens in pixel coordinates, which are whole numbers, so pieces join without
slivers. What is held at a time is a few strips and the bodies that cross their edges, never the scene's: speckle over a
whole scene costs time, not memory.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from runtime.products.base import Making, Product
from runtime.products.cog import abandon
from runtime.products.outlines import Outlines
from runtime.products.placement import Placement
from runtime.products.qgis_style import add_layer_style, water_layer_style
from sarwater.classes import WATER
from sarwater.errors import OutputError
from sarwater.request import Request
from sarwater.scenes.ground import Points
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.raster import close_dataset, gdal, gdal_array, ogr
from sarwater.shown import shown

UInt8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

STRIP_PIXELS = 4_000_000
LARGEST_STRIP_PIXELS = 8_000_000
"""The rows of a wide scene come many at a time: halves of them take less memory, and work beside each other."""
STRIP_RUNS = 250_000
"""A strip with more runs of water than this is polygonised in halves: polygons, not pixels, take the memory."""
MAX_POINTS = 1_000_000
"""A body that would need more corners is cut along a row, and its parts say so (`cut`)."""
_FIELDS = (
    ("area_m2", "OFTReal"),
    ("perimeter_m", "OFTReal"),
    ("mean_confidence", "OFTReal"),
    ("pixels", "OFTInteger64"),
    ("cut", "OFTInteger"),
)
_BATCH = 20_000
STRIPS_AT_ONCE = 4
"""At most; each takes some 100 MB where it is full of speckle. Fewer where there are fewer processors."""
_GAP_PX = 32
"""Dry rows or columns that are worth leaving out; each part costs a call of GDAL's."""


@dataclass
class _Body:
    """A water body that reaches the last row seen."""

    pieces: list[bytes] = field(default_factory=list)
    """Well-known binary."""
    points: int = 0
    confidence: int = 0
    """Sum over its pixels, percent."""
    cut: bool = False


@dataclass(frozen=True)
class _Strip:
    """The bodies of the rows from `top` to `bottom`, n of them, in scene pixels."""

    top: int
    bottom: int
    bodies: list[bytes]
    """Well-known binary."""
    confidence: Ints
    """(n,) sums over their pixels, percent."""
    north: Ints
    south: Ints
    """(n,) their first row, and the one after their last."""


class WaterPolygons(Product):
    """Writes the layer `water`: area_m2 and perimeter_m (null without a georeference), mean_confidence in percent,
    pixels, cut, scene, acquired. Raises OutputError.

    `minimum_area_m2` leaves smaller bodies out (square pixels where there is no georeference); `simplify_m` is the
    tolerance of the Douglas-Peucker simplification in units of the CRS, 0 keeps every pixel corner.
    """

    name = "polygons"
    suffix = "_water.gpkg"
    help = "water bodies with area, perimeter and mean confidence; GeoPackage"
    asset_name = "polygons"
    settings = ("minimum_area_m2", "simplify_m")
    asset: ClassVar[Mapping[str, Any]] = {
        "type": "application/geopackage+sqlite3",
        "title": "Water bodies with their area",
        "roles": ["data", "polygons"],
    }

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        super().__init__(path, scene, request)
        self.written = 0
        self._height = scene.height_px
        self._width = scene.width_px
        self._placement = Placement(scene.georeference, scene.width_px, scene.height_px)
        self._minimum_area = request.minimum_area_m2
        self._simplify = request.simplify_m
        self._rows: list[UInt8] = []
        self._confidence: list[UInt8] = []
        self._first_row = 0
        at_once = min(STRIPS_AT_ONCE, max(1, len(os.sched_getaffinity(0)) - 1))
        self._pool = ThreadPoolExecutor(at_once, "polygons")
        self._strips: deque[Future[_Strip]] = deque()
        """In the making, from north to south."""
        self._strips_at_once = at_once
        self._bodies: dict[int, _Body] = {}
        self._below = np.zeros(scene.width_px, np.int32)
        """Which body the last row's water belongs to, per column; 0 for none."""
        self._numbers = itertools.count(1)
        self._dataset: Any = None
        self._layer: Any = None
        self._feature: Any = None
        with self._opening():
            driver = gdal.GetDriverByName("GPKG")
            self._dataset = self._attempt(lambda: driver.Create(os.fsencode(path), 0, 0, 0, gdal.GDT_Unknown))
            self._layer = self._attempt(lambda: self._dataset.CreateLayer("water", self._placement.crs, ogr.wkbPolygon))
            for name, kind in _FIELDS:
                self._layer.CreateField(ogr.FieldDefn(name, getattr(ogr, kind)))
            self._feature = ogr.Feature(self._layer.GetLayerDefn())
            self._dataset.StartTransaction()

    @classmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        try:
            # An absolute path of a real file: never one of GDAL's connection strings.
            dataset = gdal.OpenEx(os.fsencode(path.resolve()), gdal.OF_VECTOR | gdal.OF_READONLY, ["GPKG"])
        except RuntimeError:
            return {}
        found: dict[str, str] = dataset.GetMetadata()
        return found

    def write(self, finished: FinishedRows) -> None:
        self._rows.append((finished.mask == WATER).view(np.uint8))
        self._confidence.append(finished.confidence)
        held = sum(len(rows) for rows in self._rows)
        # The last strip is left to `finish`: joining the large bodies then overlaps with the other products' ends.
        if held * self._width >= STRIP_PIXELS and self._first_row + held < self._height:
            self._strip_of_rows()

    def finish(self, making: Making) -> None:
        self._strip_of_rows()
        while self._strips:
            self._join(self._strips.popleft().result())
        self._pool.shutdown()
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._attempt(lambda: add_layer_style(self._dataset, "water", water_layer_style(), time=now))
        self._attempt(self._say_whose_water)
        self._attempt(self._dataset.CommitTransaction)
        tags = {**making.tags, **self.setting_tags(self.request)}
        self._attempt(lambda: self._dataset.SetMetadata(tags))
        self._layer = self._feature = None
        dataset, self._dataset = self._dataset, None
        self._attempt(lambda: close_dataset(dataset))
        try:
            # Not every error reaches us while GDAL closes a file: look whether all of it is there.
            found = count_polygons(self.path)
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path.name}: was not written whole ({error}); free disk space and run again"
            ) from error
        if found != self.written:
            raise OutputError(
                f"{self.path.name}: holds {found} of {self.written} polygons; free disk space and run again"
            )

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._layer = self._feature = None
        abandon(self._dataset)
        self._dataset = None

    def _say_whose_water(self) -> None:
        """As columns whose default is the value: SQLite then keeps it once, not with each body."""
        facts = {"scene": ("TEXT", shown(self.scene.name)), "acquired": ("DATETIME", self.scene.scene.acquired)}
        for name, (kind, value) in facts.items():
            default = "NULL" if value is None else "'" + value.replace("'", "''") + "'"
            self._dataset.ExecuteSQL(f'ALTER TABLE water ADD COLUMN "{name}" {kind} DEFAULT {default}')

    def _strip_of_rows(self) -> None:
        rows, self._rows = self._rows, []
        confidence, self._confidence = self._confidence, []
        if len(rows) > 1:
            self._strip(np.concatenate(rows), np.concatenate(confidence))
        else:
            self._strip(rows[0], confidence[0])

    def _strip(self, water: UInt8, confidence: UInt8) -> None:
        count = np.count_nonzero(water[:, 1:] > water[:, :-1])
        if (count > STRIP_RUNS or water.size > LARGEST_STRIP_PIXELS) and len(water) > 1:
            half = len(water) // 2
            self._strip(water[:half], confidence[:half])
            self._strip(water[half:], confidence[half:])
            return
        top, self._first_row = self._first_row, self._first_row + len(water)
        self._strips.append(self._pool.submit(strip_of, water, confidence, top))
        if len(self._strips) > self._strips_at_once:
            self._join(self._strips.popleft().result())

    def _join(self, strip: _Strip) -> None:
        """Write the bodies that end inside of the strip, and join the others to those of the strip above."""
        above, self._below = self._below, np.zeros(self._width, np.int32)
        names = _Names()
        reaches_up = (strip.north == strip.top) & (strip.top > 0)
        reaches_down = (strip.south == strip.bottom) & (strip.bottom < self._height)
        inside = ~(reaches_up | reaches_down)
        self._emit([strip.bodies[index] for index in np.flatnonzero(inside).tolist()], strip.confidence[inside])
        for index in np.flatnonzero(~inside).tolist():
            body = strip.bodies[index]
            number = self._hold(body, int(strip.confidence[index]))
            if reaches_up[index]:
                _join_above(names, number, body, strip.top, above)
            if reaches_down[index]:
                for start, stop in _runs_along(body, strip.bottom):
                    self._below[start:stop] = number
        self._merge(names)
        self._close_bodies()

    def _hold(self, piece: bytes, confidence: int) -> int:
        """Keep a piece that may go on beyond its strip; its number."""
        number = next(self._numbers)
        self._bodies[number] = _Body([piece], len(_outer_ring(piece)), confidence)
        return number

    def _merge(self, names: _Names) -> None:
        for number in sorted(self._bodies):
            root = names.root(number)
            if root != number:
                body = self._bodies.pop(number)
                self._bodies[root].pieces += body.pieces
                self._bodies[root].points += body.points
                self._bodies[root].confidence += body.confidence
                self._bodies[root].cut |= body.cut
        present = np.unique(self._below)
        roots = np.array([names.root(int(number)) for number in present], np.int32)
        self._below = roots[np.searchsorted(present, self._below)]

    def _close_bodies(self) -> None:
        """Write the bodies that the next rows cannot continue, and cut those that have grown too large."""
        alive = set(np.unique(self._below).tolist())
        for number, body in list(self._bodies.items()):
            if number not in alive:
                del self._bodies[number]
            elif body.points > MAX_POINTS:
                self._bodies[number] = _Body(cut=True)
                body.cut = True
            else:
                continue
            if body.pieces:
                self._emit([_joined(body.pieces)], np.array([body.confidence]), body.cut)

    def _emit(self, bodies: Sequence[bytes], confidence: Ints, cut: bool = False) -> None:
        if not bodies:
            return
        outlines = Outlines.of(bodies)
        pixels = np.rint(outlines.areas()).astype(np.int64)
        large = pixels * self._placement.largest_pixel_m2 >= self._minimum_area
        if not large.all():  # speckle is not worth measuring
            self._emit([bodies[index] for index in np.flatnonzero(large).tolist()], confidence[large], cut)
            return
        areas_m2, perimeters_m = self._placement.measure(outlines)
        measured = ~np.isnan(areas_m2)
        large = np.where(measured, areas_m2, pixels) >= self._minimum_area
        rows = zip(
            self._placement.place(outlines).as_wkb(),
            large.tolist(),
            (area_m2 if known else None for area_m2, known in zip(areas_m2.tolist(), measured, strict=True)),
            (
                perimeter_m if known else None
                for perimeter_m, known in zip(perimeters_m.tolist(), measured, strict=True)
            ),
            np.round(confidence / pixels, 1).tolist(),
            pixels.tolist(),
            strict=True,
        )
        for body, is_large, *fields in rows:
            if is_large:
                self._write_feature(ogr.CreateGeometryFromWkb(body), (*fields, int(cut)))

    def _write_feature(self, geometry: Any, fields: Sequence[float | int | None]) -> None:
        if self._simplify:
            geometry = geometry.SimplifyPreserveTopology(self._simplify)
        # One feature for all of them, and fields by their number: speckle makes millions.
        feature = self._feature
        feature.SetFID(ogr.NullFID)
        feature.SetGeometryDirectly(geometry)
        for number, value in enumerate(fields):
            if value is None:
                feature.SetFieldNull(number)
            else:
                feature.SetField(number, value)
        self._attempt(lambda: self._layer.CreateFeature(feature))
        self.written += 1
        if self.written % _BATCH == 0:
            self._attempt(self._dataset.CommitTransaction)
            self._dataset.StartTransaction()


def count_polygons(path: Path) -> int:
    """How many a GeoPackage of ours holds. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        (found,) = database.execute("SELECT count(*) FROM water").fetchone()
        return int(found)


def read_polygons(path: Path) -> list[dict[str, Any]]:
    """The water bodies in a GeoPackage of ours as GeoJSON features, in its CRS."""
    dataset = gdal.OpenEx(os.fsencode(path.resolve()), gdal.OF_VECTOR | gdal.OF_READONLY, ["GPKG"])
    return [
        {
            "type": "Feature",
            "geometry": json.loads(feature.GetGeometryRef().ExportToJson()),
            "properties": {name: feature[name] for name, _ in _FIELDS},
        }
        for feature in dataset.GetLayer("water")
    ]


def strip_of(water: UInt8, confidence: UInt8, top: int) -> _Strip:
    """(n, W) each; `top` is the scene's row of the first."""
    bodies = [bytes(polygon.ExportToWkb(ogr.wkbNDR)) for polygon in polygonise(water, top)]
    nobody = np.zeros(0, np.int64)
    if not bodies:
        return _Strip(top, top + len(water), bodies, nobody, nobody, nobody)
    outlines = Outlines.of(bodies)
    sums = Runs(water, confidence, top).sums_within(outlines)
    rows, begins = outlines.points[:, 1].astype(np.int64), outlines.starts[outlines.first[:-1]]
    north, south = np.minimum.reduceat(rows, begins), np.maximum.reduceat(rows, begins)
    return _Strip(top, top + len(water), bodies, sums, north, south)


class Runs:
    """The stretches of water in the rows of a strip, which has some, and how much confidence each holds."""

    def __init__(self, water: UInt8, confidence: UInt8, top: int) -> None:
        """(n, W) each; `top` is the scene's row of the first."""
        self._top = top
        self._height = len(water) + 1
        wet = water.view(bool)
        begins, ends = wet.copy(), wet.copy()
        begins[:, 1:] &= ~wet[:, :-1]
        ends[:, :-1] &= ~wet[:, 1:]
        starts, lasts = np.flatnonzero(begins), np.flatnonzero(ends)
        rows, columns = np.divmod(starts, water.shape[1])
        places = columns * self._height + rows
        order = np.argsort(places)
        self._places = places[order]
        """Of their first pixels, column by column."""
        lengths = lasts + 1 - starts
        of_run = np.add.reduceat(confidence[wet], np.cumsum(lengths) - lengths, dtype=np.int64)
        self._sums = np.append(0, np.cumsum(of_run[order]))

    def sums_within(self, outlines: Outlines) -> Ints:
        """(n,) the confidence of each polygon's pixels: those of the runs that begin along its outline."""
        columns, rows = outlines.points.astype(np.int64).T
        upright = columns[:-1] == columns[1:]
        upright[outlines.starts[1:-1] - 1] = False  # from one ring to the next
        corners = columns[:-1][upright] * self._height - self._top
        first, last = np.sort(np.stack([rows[:-1][upright], rows[1:][upright]]), axis=0)
        before, after = np.searchsorted(self._places, np.stack([corners + first, corners + last]))
        edges = np.zeros(len(rows), np.int64)
        edges[:-1][upright] = self._sums[after] - self._sums[before]
        found: Ints = outlines.sums(np.add.reduceat(edges, outlines.starts[:-1]))
        return found


class _Names:
    """Union-find over body numbers; the smallest number of a body is its name."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def root(self, number: int) -> int:
        root = number
        while root in self._parents:
            root = self._parents[root]
        if number != root:
            self._parents[number] = root
        return root

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        if low != high:
            self._parents[high] = low


def _join_above(names: _Names, number: int, polygon: bytes, top: int, above: npt.NDArray[np.int32]) -> None:
    """Give the piece `number` one name with the bodies of the last row of the strip above, (W,), that it continues."""
    for start, stop in _runs_along(polygon, top):
        for neighbour in np.unique(above[start:stop]):
            if neighbour:
                names.join(number, int(neighbour))


def polygonise(water: UInt8, top: int = 0) -> Iterator[Any]:
    """The 4-connected bodies of `water` (n, W) as polygons in scene pixels, whose first row is `top`.

    Each is good until the next is asked for; clone what is kept.
    """
    for north, west, part in _parts(water):
        raster = gdal_array.OpenArray(np.ascontiguousarray(part))
        raster.SetGeoTransform((west, 1, 0, top + north, 0, 1))
        band = raster.GetRasterBand(1)
        memory = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
        layer = memory.CreateLayer("strip", None, ogr.wkbPolygon)
        gdal.Polygonize(band, band, layer, -1)
        for feature in layer:
            yield feature.GetGeometryRef()


def _parts(water: UInt8, north: int = 0, west: int = 0) -> Iterator[tuple[int, int, UInt8]]:
    """(first row, first column, pixels) of rectangles that hold all of `water`, with dry ground between them: GDAL
    takes its time over every pixel, dry or not."""
    for left, right in _spans(np.asarray(water.view(bool).any(axis=0))):
        columns = water[:, left:right]
        spans = list(_spans(np.asarray(columns.view(bool).any(axis=1))))
        for upper, lower in spans:
            part = columns[upper:lower]
            if len(spans) == 1:
                yield north + upper, west + left, part
            else:
                yield from _parts(part, north + upper, west + left)


def _spans(wet: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the stretches of `wet` (n,) that _GAP_PX or more dry ones part from the next."""
    places = np.flatnonzero(wet)
    if not places.size:
        return
    breaks = np.flatnonzero(np.diff(places) > _GAP_PX)
    starts, ends = places[np.append(0, breaks + 1)], places[np.append(breaks, places.size - 1)] + 1
    yield from zip(starts.tolist(), ends.tolist(), strict=True)


def _outer_ring(polygon: bytes) -> Points:
    return Outlines.of([polygon]).ring(0)


def _runs_along(polygon: bytes, row: int) -> Iterator[tuple[int, int]]:
    """Where the outer ring runs along the line `row`: (first column, last column + 1)."""
    points = _outer_ring(polygon)
    on_line = points[:, 1] == row
    along = on_line[:-1] & on_line[1:]
    ends = np.sort(np.stack([points[:-1, 0][along], points[1:, 0][along]]), axis=0).astype(int)
    return zip(ends[0].tolist(), ends[1].tolist(), strict=True)


def _joined(pieces: list[bytes]) -> bytes:
    """One polygon of pieces that share edges, without the corners left where they met."""
    if len(pieces) == 1:
        return pieces[0]
    collection = ogr.Geometry(ogr.wkbMultiPolygon)
    for piece in pieces:
        collection.AddGeometryDirectly(ogr.CreateGeometryFromWkb(piece))
    return bytes(collection.UnionCascaded().Simplify(0).ExportToWkb(ogr.wkbNDR))
