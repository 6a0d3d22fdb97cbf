"""What every kind of product in an HDF5 file answers, and how its rasters are opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sarwater.errors import SceneUnreadable
from sarwater.scenes.hdf5 import Hdf5File, Plane
from sarwater.scenes.readers.base import Kind, Source
from sarwater.scenes.readers.geotiff import open_raster
from sarwater.scenes.scene import Scene


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
