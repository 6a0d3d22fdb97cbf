"""What every kind of product in an HDF5 file answers, and how its rasters are opened."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import PurePath
from typing import Any

from sarwater.errors import SceneUnreadable
from sarwater.scenes.foreign import geotiff_of
from sarwater.scenes.hdf5 import Hdf5File, Plane
from sarwater.scenes.readers.base import Kind, Source
from sarwater.scenes.readers.geotiff import open_raster
from sarwater.scenes.scene import Scene

_NAMED = 8
"""Rasters that a message names."""


class Hdf5Kind(Kind, ABC):
    """One kind of product. The file is open while it is asked, and closed before pixels are read."""

    @abstractmethod
    def matches(self, file: Hdf5File) -> bool:
        """Whether the file is of this kind, complete or not."""

    @abstractmethod
    def open(self, source: Source, file: Hdf5File) -> Scene:
        """Raises SceneTruncated, SceneUnreadable, SceneUnsafe."""


def open_plane(source: Source, plane: Plane) -> Any:
    """GDAL's dataset of one raster; its blocks are the chunks. GDAL's own georeference of it is never used: it has none
    for most, and a wrong one for some. Raises SceneUnreadable, SceneUnsafe."""
    path = source.path.resolve()
    if '"' in str(path):
        raise SceneUnreadable(f"{source.name}: GDAL opens no HDF5 file with a quote in its path; rename it")
    dataset = open_raster(source, ["HDF5Image"], f'HDF5:"{path}":/{plane.path}')
    if (dataset.RasterYSize, dataset.RasterXSize) != plane.shape[:2]:
        raise SceneUnreadable(
            f"{source.name}: {plane.path} is {plane.shape} px, but GDAL finds {dataset.RasterXSize} x "
            f"{dataset.RasterYSize} px; expected rows and columns"
        )
    return dataset


def with_rasters(source: Source, file: Hdf5File, driver: str = "HDF5") -> tuple[str, str]:
    """What a file of no known kind holds, and what to do with that; `driver` is GDAL's."""
    rasters = sorted((path for path, shape in file.datasets.items() if len(shape) == 2 and min(shape) > 1))
    if not rasters:
        return "without a raster", "give one of these"
    largest = max(rasters, key=lambda path: math.prod(file.datasets[path]))
    held = ", ".join(path.lstrip("/") for path in rasters[:_NAMED])
    part = f"//{largest.lstrip('/')}" if driver == "HDF5" else largest.lstrip("/")
    command = geotiff_of(f'{driver}:"{source.name}":{part}', PurePath(source.name).stem)
    return (
        f"with the rasters {held}",
        f"give one of these, or make a GeoTIFF of the raster that is backscatter, as {command}",
    )
