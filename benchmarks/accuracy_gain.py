"""The same scene from a sensor of another gain: a copy in float32 with the same tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import DataError
from sarwater.scenes.band import Band
from sarwater.scenes.raster import close_dataset, gdal
from sarwater.scenes.readers import open_scene
from sarwater.scenes.tiff import is_tiff

Float32 = npt.NDArray[np.float32]


def write_at_gain(path: Path, gain_db: float, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write the GeoTIFF at `path` into `folder`, under its own name, `gain_db` brighter; nodata stays what it was.

    Returns the copy and what a request has to say of it, for integers are amplitudes and floats may be anything.
    Raises DataError for a scene of another format.
    """
    if not path.is_file() or not is_tiff(path):
        raise DataError(f"{path}: no TIFF; expected one, of which a brighter copy can be written, or take --no-gain")
    with open_scene(path) as scene:
        copy = folder / path.name
        dataset = gdal.Translate(str(copy), gdal.Open(str(path)), format="GTiff", outputType=gdal.GDT_Float32)
        for band in scene.bands:
            raster = dataset.GetRasterBand(band.number)
            stored = raster.ReadAsArray()
            unmeasured = np.isnan(stored) if scene.nodata is None else stored == scene.nodata
            raster.WriteArray(np.where(unmeasured, stored, _brighter(stored, band, gain_db)))
            if scene.nodata is not None:
                raster.SetNoDataValue(scene.nodata)
        close_dataset(dataset)
        unit = scene.bands[0].unit
    return copy, {"unit": unit} if unit == "amplitude_dn" else {}


def _brighter(stored: Float32, band: Band, gain_db: float) -> Float32:
    if band.unit.endswith("_db"):
        return (stored + gain_db / band.scale).astype(np.float32)
    factor = 10 ** (gain_db / (10 if band.unit.endswith("_linear") else 20))
    return ((stored + band.offset / band.scale) * factor - band.offset / band.scale).astype(np.float32)
