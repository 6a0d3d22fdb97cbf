"""Cloud-optimised GeoTIFFs, written row by row as the network answers: what mask and confidence are."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.products.base import Making, Product
from runtime.products.publish import tags_of
from sarwater.classes import NODATA
from sarwater.errors import OutputError, SceneError
from sarwater.request import Request
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.raster import close_dataset, gdal
from sarwater.scenes.tiff import check_structure

UInt8 = npt.NDArray[np.uint8]
Colours = Mapping[int, tuple[int, int, int, int]]

BLOCK_PX = 512
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


class Cog(Product):
    """A uint8 COG of any height. GDAL makes a COG only of a finished raster, so rows go to a lightly compressed
    working file first, and `finish` turns that into the COG."""

    def __init__(
        self, path: Path, scene: ModelInput, request: Request, colours: Colours | None, overviews: str
    ) -> None:
        super().__init__(path, scene, request)
        self._overviews = overviews
        self._complete = True
        """No row so far had a pixel without data."""
        self._working = path.with_suffix(".rows.tif")
        self._dataset: Any = None
        with self._opening():
            self._dataset = self._attempt(lambda: self._create(scene))
            scene.georeference.apply(self._dataset)
            band = self._dataset.GetRasterBand(1)
            band.SetNoDataValue(NODATA)
            band.SetDescription(self.asset["title"])
            if colours:
                table = gdal.ColorTable()
                for value, colour in colours.items():
                    table.SetColorEntry(value, colour)
                band.SetColorTable(table)

    @classmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        return tags_of(path)

    def _create(self, scene: ModelInput) -> Any:
        blocks = ["TILED=YES", f"BLOCKXSIZE={BLOCK_PX}", f"BLOCKYSIZE={BLOCK_PX}"]
        options = [*blocks, *_light_compression(), "BIGTIFF=IF_SAFER"]
        size = (scene.width_px, scene.height_px)
        return gdal.GetDriverByName("GTiff").Create(os.fsencode(self._working), *size, 1, gdal.GDT_Byte, options)

    def _write(self, row: int, rows: UInt8) -> None:
        self._complete = self._complete and not (rows == NODATA).any()
        self._attempt(lambda: self._dataset.GetRasterBand(1).WriteArray(rows, 0, row))

    def finish(self, making: Making) -> None:
        for name, text in making.tags.items():
            self._dataset.SetMetadataItem(name, text)
        self._attempt(self._copy)
        self.close()
        try:
            # Not every error reaches us while GDAL closes a file: look whether all of it is there.
            check_structure(self.path)
        except SceneError as error:
            raise OutputError(
                f"{self.path.name}: was not written whole ({error}); free disk space, then run again"
            ) from error

    def _copy(self) -> None:
        self._dataset.FlushCache()
        # The COG driver takes overviews that are there; left to itself it makes them at twice the cost. The lightest
        # Deflate costs a quarter of the default's time, for a file a tenth larger.
        long_side_px = max(self._dataset.RasterXSize, self._dataset.RasterYSize)
        factors = list(itertools.takewhile(lambda f: long_side_px * 2 > f * BLOCK_PX, (2**n for n in range(1, 32))))
        band = self._dataset.GetRasterBand(1)
        if factors:
            if self._complete:
                band.DeleteNoDataValue()  # averages that need not look for it take less than half the time
            with _overview_compression():
                self._dataset.BuildOverviews(self._overviews, factors)
            band.SetNoDataValue(NODATA)
        options = [
            "COMPRESS=DEFLATE",
            "LEVEL=1",
            f"BLOCKSIZE={BLOCK_PX}",
            "BIGTIFF=IF_SAFER",
            "NUM_THREADS=ALL_CPUS",
        ]
        finished = gdal.GetDriverByName("COG").CreateCopy(os.fsencode(self.path), self._dataset, options=options)
        close_dataset(finished)

    def close(self) -> None:
        abandon(self._dataset)
        self._dataset = None
        self._working.unlink(missing_ok=True)


def abandon(dataset: Any) -> None:
    """Close a dataset that is not wanted any more, whatever it says."""
    with contextlib.suppress(RuntimeError):
        close_dataset(dataset)


def _light_compression() -> list[str]:
    """For working files: Zstandard where this GDAL has it, as it costs a tenth of Deflate."""
    offered = gdal.GetDriverByName("GTiff").GetMetadataItem("DMD_CREATIONOPTIONLIST")
    return ["COMPRESS=ZSTD", "ZSTD_LEVEL=1"] if "ZSTD" in offered else ["COMPRESS=DEFLATE", "ZLEVEL=1"]


@contextlib.contextmanager
def _overview_compression() -> Iterator[None]:
    """The same for the overviews of a working file, in this thread."""
    (_, kind), (level, value) = (option.split("=") for option in _light_compression())
    settings = {"COMPRESS_OVERVIEW": kind, f"{level}_OVERVIEW": value}
    for name, setting in settings.items():
        gdal.SetThreadLocalConfigOption(name, setting)
    try:
        yield
    finally:
        for name in settings:
            gdal.SetThreadLocalConfigOption(name, None)
