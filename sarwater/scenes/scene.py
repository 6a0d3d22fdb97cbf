"""An opened scene of any kind: bands to read, a georeference to keep, and what is known about the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sarwater.errors import UsageError
from sarwater.request import Window
from sarwater.scenes.band import Band, Incidence, Shadow
from sarwater.scenes.georeference import Georeference


@dataclass(repr=False)
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
    shadow: Shadow | None = None
    """Tells radar shadow and layover, from the same or a mask; on a handle of its own, because another thread reads
    it."""
    border_noise: bool = False
    """Whether a processor made it that left small DN at its edges, where nothing was measured."""
    acquired: str | None = None
    """UTC time of acquisition, ISO 8601, where known."""
    notes: tuple[str, ...] = ()
    """What was missing or assumed, in plain words, for the catalogue entry."""
    said_beside: str = ""
    """What a file beside it says of its unit, where the scene itself says nothing of that: the file and the options."""
    name: str = ""
    """What the scene is called: its file or folder name."""

    @property
    def pixel_m(self) -> float | None:
        """Pixel spacing on the ground; None where it is not known."""
        return self.georeference.pixel_m(self.width_px, self.height_px)

    def read(
        self, window: Window | tuple[int, int, int, int] | None = None, band: int | str | None = None
    ) -> npt.NDArray[np.generic]:
        """(H, W) pixels as they are stored, complex ones as their amplitude; nodata is left as it is.

        `window` is (x, y, width, height) in pixels from the upper left corner, by default all of the scene; `band` is
        its number from 1 or its polarisation, by default the only one, or the co-polarised one.

        Raises ChannelMissing, SceneUnreadable, and UsageError for a window outside the scene or after `close`.
        """
        from sarwater.scenes.channels import find_band

        if not self.bands:
            raise UsageError(f"{self.name}: was closed; open it again to read from it")
        chosen = find_band(self, None if band is None else str(band), self.bands)
        return chosen.read(self.inside(window))

    def inside(self, window: Window | tuple[int, int, int, int] | None) -> Window:
        """The window, where it lies inside the scene; all of it for None. Raises UsageError."""
        if window is None:
            return Window(0, 0, self.width_px, self.height_px)
        window = window if isinstance(window, Window) else Window(*window)
        if (
            min(window.x_px, window.y_px) < 0
            or min(window.width_px, window.height_px) < 1
            or window.x_px + window.width_px > self.width_px
            or window.y_px + window.height_px > self.height_px
        ):
            raise UsageError(f"window {window}: not inside the scene of {self.width_px} x {self.height_px} px")
        return window

    def __repr__(self) -> str:
        bands = ", ".join(f"{band.label} ({band.unit})" for band in self.bands) or "closed"
        when = f", {self.acquired}" if self.acquired else ""
        return f"<Scene {self.name}: {self.format}, {self.width_px} x {self.height_px} px, {bands}{when}>"

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
