"""One band of a scene, and the incidence angles beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneUnreadable, UnitMismatch
from sarwater.request import Window
from sarwater.scenes.level_change import LevelChange
from sarwater.scenes.raster import dtype_of
from sarwater.scenes.units import AMPLITUDE_DN_AT_0_DB, CALIBRATED_UNITS, UNKNOWN_UNIT, unlike_amplitude, unlike_unit

Pixels = npt.NDArray[np.generic]
Float32 = npt.NDArray[np.float32]
Calibration = Callable[[Float32, Window], Float32]
"""(H, W) float32 amplitude of a window -> sigma0, linear."""

IN_SETTINGS = "(in settings: `unit`, `scale`, `nodata`)"
_DERIVED_ROWS = 256
"""Rows whose values are derived at a time: what that takes beside the pixels does not grow with the tile."""
_NO_ECHO_DB = -380.0
_KEPT_DTYPES = (np.uint8, np.uint16, np.int16, np.float32)


@dataclass(frozen=True, eq=False)
class Band:
    """One raster of a scene. `read` gives the stored type where it can, float32 for everything derived."""

    dataset: Any
    number: int
    """GDAL's, from 1."""
    unit: str
    """Of `stored * scale + offset` (of the stored amplitude, where pixels are complex): one of units.SCENE_UNITS, or
    another."""
    polarisation: str | None = None
    """`hh`, `hv`, `vh`, `vv`, or None where the product does not say."""
    quadrature: Band | None = None
    """The imaginary part, where it is a raster of its own."""
    amplitudes: Float32 | None = None
    """(256,) what each stored byte stands for, where it is a code."""
    calibration: Calibration | None = None
    wanted_unit: str | None = None
    """Convert to this unit; None leaves the pixels as they are."""
    nodata: float | None = None
    """Stored value without a measurement; a conversion turns it into NaN."""
    trusted: bool = False
    """Whether somebody has looked at all of it and found its values possible for its unit; a part may look odd."""
    scene: str = ""
    """Name of the scene, for messages; that of the file where it is empty."""
    scale: float = 1.0
    offset: float = 0.0
    stated_by: str = ""
    """Who says the unit and the scale, in plain words."""
    foreign_dn: bool = False
    """Whether the DN have a scale of their own, so that amplitudes, too, are taken from `calibration`."""
    fills: tuple[float, ...] = ()
    """Further stored values without a measurement: given as NaN, and as `nodata` where pixels are not converted."""
    change: LevelChange | None = None
    """What a conversion does to the level."""
    marks_zeros: bool = False
    """Whether a conversion gives stored zeros as -inf, so that they can be told from a level of 0."""

    @property
    def label(self) -> str:
        return self.polarisation or f"band {self.number}"

    @property
    def converted(self) -> bool:
        return self.wanted_unit is not None

    @property
    def scaled(self) -> bool:
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def silent(self) -> bool:
        """Whether only the type of its pixels says that they are amplitudes."""
        unsaid = self.unit in ("amplitude_dn", UNKNOWN_UNIT) and not self.scaled and not self.stated_by
        return unsaid and self._plain and self.calibration is None and self.stored_dtype.kind in "iuf"

    @property
    def tells_empty(self) -> bool:
        """Whether stored values tell where there is no echo, as a conversion marks zeros."""
        return self.converted and self.marks_zeros and self._plain and self.stored_dtype.kind in "iuf"

    @property
    def _foreign(self) -> bool:
        return self.foreign_dn and self.calibration is not None

    @property
    def calibrated(self) -> bool:
        """Whether what `read` gives is calibrated backscatter, or an amplitude that was made of it."""
        return self._foreign or (self.unit in CALIBRATED_UNITS and not self.unit.startswith("intensity"))

    @property
    def of_zero(self) -> float:
        """What a conversion makes of a stored zero."""
        plain = replace(self, marks_zeros=False, trusted=True, nodata=None)
        return float(plain._converted(np.zeros((1, 1), np.float32), Window(0, 0, 1, 1))[0, 0])

    @property
    def detached(self) -> Band:
        """What is known of this band, without its file: it cannot be read."""
        return replace(self, dataset=None, quadrature=None, calibration=None)

    @property
    def delivered_unit(self) -> str:
        """Of what `read` gives."""
        return self.wanted_unit or self.unit

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of what `read` gives."""
        stored = self.stored_dtype
        kept = stored in _KEPT_DTYPES and self._plain and not self.converted
        return stored if kept else np.dtype(np.float32)

    @property
    def _plain(self) -> bool:
        """Whether a stored value is one that is measured."""
        return self.quadrature is None and self.amplitudes is None

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        return dtype_of(self._raster)

    @property
    def block_px(self) -> tuple[int, int]:
        """Columns and rows that are decoded at once."""
        columns, rows = self._raster.GetBlockSize()
        return int(columns), int(rows)

    def in_unit(self, unit: str, nodata: float | None) -> Band | None:
        """This band as a model's `unit`, or None where there is no way there."""
        if self.unit == unit or (self.unit == UNKNOWN_UNIT and unit == "amplitude_dn"):
            return replace(self, wanted_unit=unit, nodata=nodata) if self.scaled or self._foreign else self
        from_amplitude = self.unit == "amplitude_dn" and self.calibration is not None
        to_sigma0 = unit.startswith("sigma0") and (from_amplitude or self.unit.startswith("sigma0"))
        if to_sigma0 or (unit == "amplitude_dn" and self.unit in CALIBRATED_UNITS):
            return replace(self, wanted_unit=unit, nodata=nodata)
        return None

    def read(self, window: Window) -> Pixels:
        """(H, W) in `dtype`; complex pixels as their amplitude.

        Raises SceneUnreadable, and UnitMismatch for pixels that cannot be in `unit`.
        """
        pixels: Pixels = self._stored(window)
        if self.amplitudes is not None:
            pixels = self.amplitudes[pixels.astype(np.uint8)]
        if self.quadrature is not None:
            pixels = np.hypot(pixels.astype(np.float32), self.quadrature.read(window).astype(np.float32))
        if np.iscomplexobj(pixels):
            pixels = np.abs(pixels)
        if self.converted:
            return self._converted(pixels, window)
        return self._without_fill(pixels.astype(self.dtype, copy=bool(self.fills)))

    def read_into(self, out: Pixels, window: Window) -> None:
        """As `read`, into (H, W) `out`; straight from the decoder where nothing is to be done to the pixels."""
        if out.dtype == self.stored_dtype and self._plain and not self.converted:
            self._stored(window, out)
            self._without_fill(out)
            return
        for first in range(0, window.height_px, _DERIVED_ROWS):
            part = out[first : first + _DERIVED_ROWS]
            part[...] = self.read(replace(window, y_px=window.y_px + first, height_px=len(part)))

    def read_empty(self, window: Window) -> npt.NDArray[np.bool_]:
        """(H, W) bool, True where `read` of a band that `tells_empty` gives no echo. Nothing is converted for it, which
        takes longer than decoding. Raises SceneUnreadable."""
        stored = self._stored(window)
        empty = stored == 0
        for value in (self.nodata, *self.fills):
            if value is not None:
                empty |= stored == value
        if stored.dtype.kind == "f":
            empty |= ~np.isfinite(stored)
            if self.unit.endswith("_db"):  # no echo is left of it as power in 32 bits
                empty |= stored * np.float32(self.scale) < np.float32(_NO_ECHO_DB - self.offset)
        return np.asarray(empty)

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """(H, W) bool, False where the mask or alpha band says that nothing was measured. Raises SceneUnreadable."""
        measured: npt.NDArray[np.bool_] = self._decoded(self._raster.GetMaskBand(), window) != 0
        return measured

    def _converted(self, stored: Pixels, window: Window) -> Float32:
        """(H, W) stored pixels of `window` -> float32 in `wanted_unit`; NaN where `stored` is nodata."""
        missing = np.isnan(stored) if self.nodata is None else stored == self.nodata
        for fill in self.fills:
            missing |= stored == fill
        values: Float32 = stored.astype(np.float32)
        if self.scaled:
            values = values * np.float32(self.scale) + np.float32(self.offset)
        if self.unit in CALIBRATED_UNITS and not self.trusted:
            self._refuse_other_units(values, np.isfinite(values) & ~missing & (stored != 0))
        elif self.change and not self.trusted and self.wanted_unit == "amplitude_dn" and not self._foreign:
            self._refuse_no_amplitude(np.where(missing, np.float32(np.nan), values))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result = self._in_wanted_unit(values, window)
            if self.change:
                result = self.change.of(result, self.delivered_unit)
        result[missing] = np.nan
        if self.marks_zeros:
            result[(stored == 0) & ~missing] = -np.inf
        return result

    def _without_fill(self, pixels: Pixels) -> Pixels:
        """(H, W) `pixels` in `dtype`, changed in place."""
        for fill in self.fills:
            pixels[pixels == fill] = np.nan if self.nodata is None else self.nodata
        return pixels

    def _in_wanted_unit(self, values: Float32, window: Window) -> Float32:
        if (self.wanted_unit == self.unit and not self._foreign) or self.unit == UNKNOWN_UNIT:
            return values
        if self.unit.endswith("_db"):
            linear = np.power(np.float32(10), values / 10)
        elif self.unit == "amplitude_dn" and self.calibration:
            linear = self.calibration(values, window)
        elif self.unit.endswith("_amplitude"):
            linear = values * np.abs(values)
        else:
            linear = values
        if self.wanted_unit == "amplitude_dn":
            return self._amplitude(linear)
        decibels: Float32 = 10 * np.log10(linear)
        return decibels if self.wanted_unit == "sigma0_db" else linear

    def _refuse_other_units(self, values: Float32, measured: npt.NDArray[np.bool_]) -> None:
        """Said to be backscatter, by the product or with --unit, and none: the mask would be all water, or all land."""
        if why := unlike_unit(values, measured, self.unit, self.scale, self.offset):
            raise UnitMismatch(f"{self._scene}: as {self.unit} ({self.label}), {why}")

    def _refuse_no_amplitude(self, values: Float32) -> None:
        """As they are before they are brightened: afterwards they may look like amplitudes."""
        if why := unlike_amplitude(values):
            raise UnitMismatch(f"{self._scene}: {why} {IN_SETTINGS}")

    def _amplitude(self, power: Float32) -> Float32:
        """The root of `power`, (H, W) float32. What is not above 0 once noise is subtracted is dark, not nodata."""
        scale = 1.0 if self.unit.startswith("intensity") else AMPLITUDE_DN_AT_0_DB
        dark = (power < 0) & (power > -np.inf)
        amplitude: Float32 = np.sqrt(np.where(dark, 0, power)) * np.float32(scale)
        amplitude[dark] = 1
        return amplitude

    def _stored(self, window: Window, out: Pixels | None = None) -> Any:
        return self._decoded(self._raster, window, out)

    def _decoded(self, raster: Any, window: Window, out: Pixels | None = None) -> Any:
        try:
            return raster.ReadAsArray(window.x_px, window.y_px, window.width_px, window.height_px, buf_obj=out)
        except RuntimeError as error:
            last = window.y_px + window.height_px - 1
            raise SceneUnreadable(
                f"{self._scene}: {self.label}, rows {window.y_px}..{last} cannot be decoded ({error}); "
                "the file is damaged: send it again"
            ) from error

    @property
    def _scene(self) -> str:
        return self.scene or Path(self.dataset.GetDescription()).name

    @property
    def _raster(self) -> Any:
        """Never kept: using GDAL's band after its dataset was let go ends the process."""
        return self.dataset.GetRasterBand(self.number)


class Shadow(Protocol):
    """Whatever tells where the ground lies in radar shadow or layover."""

    def shadow(self, window: Window) -> npt.NDArray[np.bool_]:
        """(H, W) True where it does. Raises SceneUnreadable."""


@dataclass(frozen=True, eq=False)
class Incidence:
    """The incidence-angle mask (GIM) of a geocoded product: theta = value * scale - offset, in degrees, 0 for nodata.

    The angle is that between the radar's look and the ground's normal, signed: at 90 degrees and beyond the ground
    lies in radar shadow; at 0 and below it leans further towards the radar than the look does, and is in layover.
    Neither can be told from water, or from anything else, by brightness.
    """

    band: Band
    scale: float | None
    offset: float | None
    """None, with `scale`, where the product does not tell them: the mask can then feed a network, but has no angles."""

    def angle_deg(self, window: Window) -> npt.NDArray[np.float64]:
        """(H, W) float64. Raises ValueError without scale and offset, SceneUnreadable."""
        if self.scale is None or self.offset is None:
            raise ValueError("this incidence-angle mask has no scale")
        values = self.band.read(window).astype(np.float64)
        return values * self.scale - self.offset

    def shadow(self, window: Window) -> npt.NDArray[np.bool_]:
        """(H, W) True in radar shadow or layover; the largest value that the mask can hold counts as 90 degrees.

        Half a step of tolerance keeps rounding out of it.
        """
        if self.scale is None or self.offset is None:
            return np.zeros((window.height_px, window.width_px), bool)
        values = self.band.read(window)
        angles = values.astype(np.float32) * np.float32(self.scale) - np.float32(self.offset)
        hidden: npt.NDArray[np.bool_] = ((angles <= 0) | (angles > 90 - 1.5 * self.scale)) & (values != 0)
        return hidden
