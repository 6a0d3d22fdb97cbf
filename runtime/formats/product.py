"""What every format is turned into: layers to read, a georeference to keep, and what is known about the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.formats.georeference import Georeference
from runtime.formats.layer import Incidence, Layer
from runtime.job import Window


@dataclass
class Product:
    """An opened scene of any format, as large as all its layers are."""

    width_px: int
    height_px: int
    layers: tuple[Layer, ...]
    georeference: Georeference
    format: str
    """What a person would call it: `GeoTIFF`, `KOMPSAT-5 L1D`, `Sentinel-1 GRD`."""
    declared_nodata: float | None = None
    """What the file itself names as nodata."""
    nodata: float | None = None
    """What is treated as nodata: the declared value, or the sensor's convention."""
    mask_band: Any = None
    """GDAL band that is 0 where nothing was measured, or None."""
    incidence: Incidence | None = None
    """Incidence angles on the same grid, where the product has them."""
    shadow: Incidence | None = None
    """The same on a handle of its own, because another thread reads it."""
    acquired: str | None = None
    """UTC time of acquisition, ISO 8601, where known."""
    notes: tuple[str, ...] = ()
    """What was missing or assumed, in plain words, for the catalogue entry."""

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """(height, width) bool, False where nothing was measured; None where the product has no mask."""
        if self.mask_band is None:
            return None
        mask = self.mask_band.ReadAsArray(window.x_px, window.y_px, window.width_px, window.height_px)
        return mask != 0  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the files; the layers cannot be read afterwards."""
        self.layers = ()
        self.incidence = self.shadow = None
        self.mask_band = None
