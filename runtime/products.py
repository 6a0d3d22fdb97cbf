"""The files analysts get: cloud-optimised rasters now, written row by row as the network answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.raster import gdal
from runtime.scene import Scene
from runtime.tiff import check_structure
from sarwater.errors import OutputError, SceneError
from sarwater.metrics import NODATA

UInt8 = npt.NDArray[np.uint8]

BLOCK_PX = 512
MASK_COLOURS = {0: (203, 196, 180, 255), 1: (38, 107, 179, 255), NODATA: (0, 0, 0, 0)}
"""Class -> red, green, blue, alpha."""


class CogWriter:
    """A uint8 cloud-optimised GeoTIFF of any height, written from north to south.

    GDAL makes a COG only from a finished raster, so rows go to a lightly compressed working file first. `finish`
    turns that into the COG; leaving the context without it leaves nothing behind.

    Raises OutputError where the disk is full or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        scene: Scene,
        tags: Mapping[str, str],
        *,
        colours: Mapping[int, tuple[int, int, int, int]] | None = None,
        overviews: str = "NEAREST",
    ) -> None:
        self.path = path
        self._overviews = overviews
        self._working = path.with_suffix(".rows.tif")
        self._dataset = _writing(
            path,
            lambda: gdal.GetDriverByName("GTiff").Create(
                str(self._working),
                scene.width_px,
                scene.height_px,
                1,
                gdal.GDT_Byte,
                [
                    "TILED=YES",
                    f"BLOCKXSIZE={BLOCK_PX}",
                    f"BLOCKYSIZE={BLOCK_PX}",
                    "COMPRESS=DEFLATE",
                    "ZLEVEL=1",
                    "BIGTIFF=IF_SAFER",
                ],
            ),
        )
        scene.georeference.apply(self._dataset)
        for name, text in tags.items():
            self._dataset.SetMetadataItem(name, text)
        band = self._dataset.GetRasterBand(1)
        band.SetNoDataValue(NODATA)
        if colours:
            table = gdal.ColorTable()
            for value, colour in colours.items():
                table.SetColorEntry(value, colour)
            band.SetColorTable(table)

    def write(self, row: int, rows: UInt8) -> None:
        """Rows (n, W) uint8, starting at scene row `row`."""
        _writing(self.path, lambda: self._dataset.GetRasterBand(1).WriteArray(rows, 0, row))

    def finish(self) -> None:
        def copy() -> None:
            self._dataset.FlushCache()
            options = [
                "COMPRESS=DEFLATE",
                f"BLOCKSIZE={BLOCK_PX}",
                f"OVERVIEW_RESAMPLING={self._overviews}",
                "BIGTIFF=IF_SAFER",
            ]
            finished = gdal.GetDriverByName("COG").CreateCopy(str(self.path), self._dataset, options=options)
            finished.FlushCache()

        _writing(self.path, copy)
        self.close()
        try:
            # Errors while GDAL closes a file are not reported: look whether all of it is there.
            check_structure(self.path)
        except SceneError as error:
            raise OutputError(
                f"{self.path.name}: was not written whole ({error}); free disk space, then run again"
            ) from error

    def close(self) -> None:
        self._dataset = None
        self._working.unlink(missing_ok=True)


def _writing(path: Path, step: Any) -> Any:
    try:
        return step()
    except (RuntimeError, OSError) as error:
        raise OutputError(
            f"{path.name}: cannot be written in {path.parent} ({error}); free disk space or fix permissions"
        ) from error
