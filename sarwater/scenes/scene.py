"""An opened scene of any kind: bands to read, a georeference to keep, and what is known about the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sarwater.request import Window
from sarwater.scenes.band import Band, Incidence
from sarwater.scenes.georeference import Georeference


@dataclass
class Scene:
    """An opened scene, as large as all its bands are. A context manager: leaving it closes the files."""

    width_px: int
    height_px: int
    bands: tuple[Band, ...]
    georeference: Georeference
    format: str
    """What a person would call it: `GeoTIFF`, `KOMPSAT-5 L1D`, `Sentinel-1 GRD`."""
    declared_nodata: float | None = None
    """What the file itself names as nodata."""
    nodata: float | None = None
    """What is treated as nodata: the declared value, or the sensor's convention."""
    masked: bool = False
    """Whether the file has a mask or an alpha band that says where something was measured."""
    incidence: Incidence | None = None
    """Incidence angles on the same grid, where the product has them."""
    shadow: Incidence | None = None
    """The same on a handle of its own, because another thread reads it."""
    acquired: str | None = None
    """UTC time of acquisition, ISO 8601, where known."""
    notes: tuple[str, ...] = ()
    """What was missing or assumed, in plain words, for the catalogue entry."""
    name: str = ""
    """What the scene is called: its file or folder name."""

    @property
    def pixel_m(self) -> float | None:
        """Pixel spacing on the ground; None where it is not known."""
        return self.georeference.pixel_m(self.width_px, self.height_px)

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """(height, width) bool, False where nothing was measured; None where the product has no mask."""
        return self.bands[0].read_mask(window) if self.masked else None

    def close(self) -> None:
        """Close the files; the bands cannot be read afterwards."""
        self.bands = ()
        self.incidence = self.shadow = None
        self.masked = False

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
