"""The rasters analysts get: mask and confidence as cloud-optimised GeoTIFFs, written row by row as the network answers.

Every product has the same life: `write` takes finished rows from north to south, `finish` completes the file, and
`close` (always called) lets go of it.
"""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from runtime.formats.tiff import check_structure
from runtime.raster import close_dataset, gdal
from runtime.scene import SHADOW, Scene
from sarwater.errors import OutputError, SceneError
from sarwater.metrics import LAND, NODATA, WATER

UInt8 = npt.NDArray[np.uint8]
Colours = Mapping[int, tuple[int, int, int, int]]

BLOCK_PX = 512
COG = "image/tiff; application=geotiff; profile=cloud-optimized"

CLASSES = {
    LAND: "land",
    WATER: "water",
    SHADOW: "radar shadow or layover, not classified",
    NODATA: "no data",
}
MASK_COLOURS: Colours = {
    LAND: (203, 196, 180, 255),
    WATER: (38, 107, 179, 255),
    SHADOW: (90, 84, 92, 255),
    NODATA: (0, 0, 0, 0),
}
"""Class -> red, green, blue, alpha."""


class Product(ABC):
    """One file made of a scene's finished rows. One thread writes. Raises OutputError where the disk is at fault."""

    name: str
    """Of the STAC asset."""
    asset: Mapping[str, Any]
    """What the STAC item says of it: type, title, roles, and more."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def write(self, finished: FinishedRows) -> None: ...

    @abstractmethod
    def finish(self, tags: Mapping[str, str]) -> None:
        """Complete the file; `tags` say of its making what the format has room for."""

    @abstractmethod
    def close(self) -> None: ...

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Around what opens the file: nobody else can close one whose product was never finished, and GDAL would
        write to it when the folder is gone (Ctrl-C)."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _attempt(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except (RuntimeError, OSError) as error:
            raise OutputError(
                f"{self.path.name}: cannot be written in {self.path.parent.parent} ({_last_words(error)}); "
                "free disk space or fix permissions, then run again"
            ) from error

    def _abandon(self, dataset: Any) -> None:
        """Close a dataset that is not wanted any more, whatever it says."""
        with contextlib.suppress(RuntimeError):
            close_dataset(dataset)


class _Cog(Product):
    """A uint8 COG of any height. GDAL makes a COG only of a finished raster, so rows go to a lightly compressed
    working file first, and `finish` turns that into the COG."""

    def __init__(self, path: Path, scene: Scene, colours: Colours | None, overviews: str) -> None:
        super().__init__(path)
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
            if colours:
                table = gdal.ColorTable()
                for value, colour in colours.items():
                    table.SetColorEntry(value, colour)
                band.SetColorTable(table)

    def _create(self, scene: Scene) -> Any:
        blocks = ["TILED=YES", f"BLOCKXSIZE={BLOCK_PX}", f"BLOCKYSIZE={BLOCK_PX}"]
        options = [*blocks, *_light_compression(), "BIGTIFF=IF_SAFER"]
        size = (scene.width_px, scene.height_px)
        return gdal.GetDriverByName("GTiff").Create(str(self._working), *size, 1, gdal.GDT_Byte, options)

    def _write(self, row: int, rows: UInt8) -> None:
        self._complete = self._complete and not (rows == NODATA).any()
        self._attempt(lambda: self._dataset.GetRasterBand(1).WriteArray(rows, 0, row))

    def finish(self, tags: Mapping[str, str]) -> None:
        for name, text in tags.items():
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
        finished = gdal.GetDriverByName("COG").CreateCopy(str(self.path), self._dataset, options=options)
        close_dataset(finished)

    def close(self) -> None:
        self._abandon(self._dataset)
        self._dataset = None
        self._working.unlink(missing_ok=True)


class WaterMask(_Cog):
    """uint8 classes of CLASSES, with a colour table; overviews by nearest neighbour, so that they hold classes too."""

    name = "water"
    asset: Mapping[str, Any] = {
        "type": COG,
        "title": "Water mask",
        "roles": ["data", "water-mask"],
        "raster:bands": [{"data_type": "uint8", "nodata": NODATA}],
        "file:values": [{"values": [value], "summary": text} for value, text in CLASSES.items()],
    }

    def __init__(self, path: Path, scene: Scene) -> None:
        super().__init__(path, scene, MASK_COLOURS, "NEAREST")

    def write(self, finished: FinishedRows) -> None:
        self._write(finished.row, finished.mask)


class Confidence(_Cog):
    """uint8 probability of water in percent, 255 where there is none; overviews are averages."""

    name = "confidence"
    asset: Mapping[str, Any] = {
        "type": COG,
        "title": "Probability of water, percent",
        "roles": ["data", "confidence"],
        "raster:bands": [{"data_type": "uint8", "nodata": NODATA, "unit": "%"}],
    }

    def __init__(self, path: Path, scene: Scene) -> None:
        super().__init__(path, scene, None, "AVERAGE")

    def write(self, finished: FinishedRows) -> None:
        self._write(finished.row, finished.confidence)


def _last_words(error: BaseException) -> str:
    """The end of a library's message, which is where it says why."""
    text = " ".join(str(error).split()) or "no reason given"
    return text if len(text) <= 120 else f"...{text[-120:]}"


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
