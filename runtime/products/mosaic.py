"""Masks of several scenes as one, in a cell of a grid: the later scene lies over the earlier, no data over nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.products.cog import BLOCK_PX, abandon
from sarwater.classes import NODATA
from sarwater.errors import OutputError, UsageError
from sarwater.scenes.raster import close_dataset, gdal, osr

_LONGEST_PX = 50_000
"""Of a cell's side."""


@dataclass(frozen=True)
class Grid:
    """Square cells of square pixels, counted from the origin of a coordinate system, in its units."""

    epsg: int
    pixel: float
    cell: float

    @classmethod
    def parse(cls, text: str) -> Grid:
        """`EPSG:32652,10,100000`. Raises UsageError."""
        try:
            name, pixel, cell = text.split(",")
            authority, _, code = name.partition(":")
            grid = cls(int(code), float(pixel), float(cell))
            side_px = grid.cell / grid.pixel
            whole = math.isclose(side_px, round(side_px), rel_tol=1e-9)
            if authority.upper() != "EPSG" or not (whole and 1 <= side_px <= _LONGEST_PX and grid.pixel > 0):
                raise ValueError
            _ = grid._reference
        except (ValueError, ZeroDivisionError, OverflowError, RuntimeError):
            raise UsageError(
                f"--grid {text}: expected EPSG:CODE,PIXEL,CELL in units of that system, the cell a multiple of the "
                f"pixel of at most {_LONGEST_PX:,}, as EPSG:32652,10,100000"
            ) from None
        return grid

    def __str__(self) -> str:
        return f"EPSG{self.epsg}-{self.pixel:g}-{self.cell:g}"

    @cached_property
    def _reference(self) -> Any:
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(self.epsg)
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        return reference

    def cells(self, bbox: Sequence[float]) -> Iterator[tuple[int, int]]:
        """(column, row) of those that a box touches: west, south, east, north in degrees; none where the system cannot
        show it."""
        west, south, east, north = bbox
        longitudes = osr.SpatialReference()
        longitudes.ImportFromEPSG(4326)
        longitudes.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        transformation = osr.CoordinateTransformation(longitudes, self._reference)
        found = set()
        for left, right in [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]:
            x0, y0, x1, y1 = transformation.TransformBounds(left, south, right, north, 21)
            if all(map(math.isfinite, (x0, y0, x1, y1))):
                columns, rows = (
                    (math.floor(a / self.cell), math.floor(b / self.cell)) for a, b in ((x0, x1), (y0, y1))
                )
                found |= {(x, y) for x in range(columns[0], columns[1] + 1) for y in range(rows[0], rows[1] + 1)}
        yield from sorted(found)

    def bounds(self, cell: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        left, bottom = (number * self.cell for number in cell)
        return left, bottom, left + self.cell, bottom + self.cell


def write_mosaic(masks: Sequence[Path], grid: Grid, cell: tuple[int, int], path: Path, tags: Mapping[str, str]) -> bool:
    """The masks, the earliest first, as a COG of the cell at `path`; false, and no file, where none of them has data
    there. Raises OutputError."""
    working = path.with_suffix(".work.tif")
    try:
        with ExitStack() as stack:
            sources = [gdal.OpenEx(str(mask), gdal.OF_RASTER, allowed_drivers=["GTiff"]) for mask in masks]
            for source in sources:
                stack.callback(abandon, source)
            warped = gdal.Warp(
                str(working),
                sources,
                format="GTiff",
                dstSRS=f"EPSG:{grid.epsg}",
                outputBounds=grid.bounds(cell),
                xRes=grid.pixel,
                yRes=grid.pixel,
                resampleAlg="near",
                srcNodata=NODATA,
                dstNodata=NODATA,
                creationOptions=["TILED=YES", "COMPRESS=DEFLATE", "ZLEVEL=1", "BIGTIFF=IF_SAFER"],
            )
            stack.callback(abandon, warped)
            if not _has_data(warped):
                return False
            for name, text in tags.items():
                warped.SetMetadataItem(name, text)
            options = ["COMPRESS=DEFLATE", f"BLOCKSIZE={BLOCK_PX}", "RESAMPLING=NEAREST", "BIGTIFF=IF_SAFER"]
            close_dataset(gdal.GetDriverByName("COG").CreateCopy(str(path), warped, options=options))
            return True
    except RuntimeError as error:
        raise OutputError(f"{path.name}: no mosaic of {len(masks)} masks ({error}); verify them, free space") from error
    finally:
        working.unlink(missing_ok=True)


def _has_data(dataset: Any) -> bool:
    band = dataset.GetRasterBand(1)
    for row in range(0, band.YSize, BLOCK_PX):
        if (band.ReadAsArray(0, row, band.XSize, min(BLOCK_PX, band.YSize - row)) != NODATA).any():
            return True
    return False
