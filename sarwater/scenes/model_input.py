"""A scene as a network sees it: channels in the model's order, strips of rows, nodata, a window.

with open_model_input(path, manifest.channels) as scene:
    plan = backend.plan(scene.height_px, scene.width_px)
    for rows, valid in scene.strips(plan):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sarwater.errors import UnitMismatch, UsageError
from sarwater.manifest import Channel
from sarwater.request import Request, Window
from sarwater.scenes.band import IN_SETTINGS, Band
from sarwater.scenes.border_noise import extent_without_noise
from sarwater.scenes.channels import choose_bands
from sarwater.scenes.edge_zeros import EdgeZeros
from sarwater.scenes.fill import fills_at_corners
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.level import Level
from sarwater.scenes.level_change import UNCHANGED, LevelChange
from sarwater.scenes.scene import Scene
from sarwater.scenes.units import AMPLITUDE_UNITS, CALIBRATED_UNITS, UNKNOWN_UNIT, can_hold, nodata_of, unlike_amplitude
from sarwater.scenes.valid_extent import ExtentLook, ValidExtent
from sarwater.tiling import TilePlan
from sarwater.upsampling import upsampled

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]
UInt16 = npt.NDArray[np.uint16]

See = Callable[[int, Pixels, Bool | None], None]
"""Called with (first row, pixels (C, n, W), validity (n, W) or None)."""


@dataclass
class ModelInput:
    """An opened scene, cut to a window. A context manager: leaving it closes the files. One thread reads."""

    scene: Scene
    bands: tuple[Band, ...]
    """One per channel of the model."""
    window: Window
    sar_channels: tuple[int, ...]
    """Which of them are backscatter; the others (incidence angles) do not tell where something was measured."""
    sar_nodata: float | None
    """Pixel value that means that nothing was measured; None where there is none, or NaN stands for it."""
    edge_zeros: EdgeZeros | None = None
    """Takes stored zeros that reach in from an edge of the scene for nodata, where they are."""
    fills: tuple[float, ...] = ()
    """Stored values other than `sar_nodata` that fill corners of the scene and were taken for nodata."""
    within_noise: ValidExtent | None = None
    """What lies within the border noise of the scene, where it has some."""
    level: Level | None = None
    """How bright the scene is, once somebody has looked (sarwater/scenes/level.py)."""
    change: LevelChange = UNCHANGED
    """How its level was changed."""
    table: UInt16 | None = None
    """What `strips` gives for each value of backscatter from 0 up, where the change is no gain alone."""
    _per_dn: float = 1.0
    """DN of 1 in `table`."""
    upsampling_factor: int = 1
    """How often `strips` gives each pixel along each axis (sarwater/upsampling.py)."""

    @classmethod
    def of(cls, scene: Scene, channels: Sequence[Channel], request: Request) -> ModelInput:
        """The scene's bands for these `channels`. Raises ChannelMissing, UnitMismatch, UsageError for a window outside
        the scene."""
        scene.bands = tuple(_as_stated(band, request) for band in scene.bands)
        nodata = _nodata_of(scene, request)
        bands = choose_bands(scene, channels, request.polarisations, nodata)
        sar = tuple(number for number, channel in enumerate(channels) if channel.name != "gim")
        first = bands[sar[0]]
        fills: tuple[float, ...] = ()
        if request.nodata is None:
            fills = fills_at_corners(first, scene.width_px, scene.height_px, nodata)
            nodata = fills[0] if fills and nodata is None else nodata
            bands = tuple(
                replace(band, fills=fills, nodata=nodata) if fills and number in sar else band
                for number, band in enumerate(bands)
            )
        # Not where zeros are nodata anyway, and not where somebody has said what nodata is.
        zeros_at_edges = request.nodata is None and nodata != 0
        if zeros_at_edges:
            bands = tuple(
                replace(band, marks_zeros=True) if number in sar and band.converted else band
                for number, band in enumerate(bands)
            )
        sar_nodata = None if first.converted else nodata
        _refuse_what_is_said_beside(scene, first, request)
        sar_bands = tuple(bands[number] for number in sar)
        return cls(
            scene=scene,
            bands=bands,
            window=scene.inside(request.window),
            sar_channels=sar,
            sar_nodata=sar_nodata,
            edge_zeros=EdgeZeros(sar_bands, scene.width_px, scene.height_px, sar_nodata) if zeros_at_edges else None,
            fills=fills,
            within_noise=_within_noise(scene, first) if request.nodata is None else None,
        )

    @property
    def name(self) -> str:
        return self.scene.name

    @property
    def nodata(self) -> float | None:
        """What a backend may compare every channel with; None where `strips` yields a validity mask instead."""
        return self.sar_nodata if len(self.sar_channels) == len(self.bands) else None

    @property
    def sar_unit(self) -> str:
        """Of the channels of backscatter, as `read` gives them."""
        unit = self.bands[self.sar_channels[0]].delivered_unit
        return "amplitude_dn" if unit == UNKNOWN_UNIT else unit

    @property
    def calibrated(self) -> bool:
        """Whether the amplitudes have the same meaning in every product: they come from calibrated backscatter."""
        return self.bands[self.sar_channels[0]].calibrated

    @property
    def taken_for_amplitude(self) -> bool:
        """Whether only their type says that its pixels are amplitudes, and that nothing speaks against it."""
        return self.scene.format in _SILENT_FORMATS and self.bands[self.sar_channels[0]].silent

    @property
    def height_px(self) -> int:
        return self.window.height_px

    @property
    def width_px(self) -> int:
        return self.window.width_px

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the strips: the sensor's own, or float32 where bands differ or values are derived."""
        return np.result_type(*(band.dtype for band in self.bands))

    @property
    def georeference(self) -> Georeference:
        return self.scene.georeference.shifted(self.window.x_px, self.window.y_px)

    @property
    def pixel_m(self) -> float | None:
        """Pixel spacing on the ground; None where it is not known."""
        return self.scene.pixel_m

    @property
    def valid_extent(self) -> ValidExtent | None:
        """Of the scene, where somebody has looked at all of it and found zeros at its edges. For another opening of the
        same scene, which then has not to look."""
        return self.edge_zeros.extent if self.edge_zeros is not None else None

    @valid_extent.setter
    def valid_extent(self, extent: ValidExtent | None) -> None:
        if self.edge_zeros is not None:
            self.edge_zeros.extent = extent

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever uses the products should know, in plain words."""
        notes = list(self.scene.notes)
        if not self.georeference.known:
            notes.append("the scene has no georeference: products are in rows and columns")
        elif self.pixel_m is None:
            notes.append("its georeference leads to no place on the earth: no footprint and no areas")
        if self.upsampling_factor > 1:
            notes.append(
                f"pixels are coarser than the model knows: it saw each {self.upsampling_factor} times along each axis"
            )
        for band in self.bands:
            if band.scaled:
                plus = f" and {band.offset:+g} added" if band.offset else ""
                by = f", as {band.stated_by} says" if band.stated_by else ""
                notes.append(
                    f"{band.label}: stored values were multiplied by {band.scale:.6g}{plus} to be {band.unit}{by}"
                )
            if band.converted and band.foreign_dn:
                notes.append(
                    f"{band.label}: DN were calibrated to sigma0{f' with {by}' if (by := band.stated_by) else ''}"
                )
            elif band.converted and band.unit not in (band.delivered_unit, UNKNOWN_UNIT):
                notes.append(f"{band.label}: {band.unit} was converted to {band.delivered_unit}")
        if self.change:
            notes.append(
                f"its level was changed by {self.change.gain_db:+.1f} dB to the usual one"
                + (f", its contrast by a factor of {self.change.stretch:.1f}" if self.change.stretch != 1 else "")
                + "; --level given leaves it"
            )
        elif self.level and not self.level.known:
            notes.append(self.level.said(self.sar_unit))
        for fill in self.fills:
            notes.append(f"{fill:g} fills a corner of the scene and was taken for nodata; --nodata says otherwise")
        if self.within_noise is not None:
            notes.append("border noise of an old processor was taken for nodata; --nodata says otherwise")
        if self.edge_zeros is not None and self.edge_zeros.cleared:
            where = "reach in from an edge, or are solid," if self.edge_zeros.solid_is_fill else "reach in from an edge"
            notes.append(f"zeros that {where} were taken for nodata; --nodata says otherwise")
        return tuple(notes)

    def cropped(self, window: Window) -> ModelInput:
        """The same scene, cut to a window of scene pixels. Raises UsageError where that lies outside of it."""
        return replace(self, window=self.scene.inside(window))

    def change_level(self, change: LevelChange) -> None:
        """Of the channels of backscatter: DN on their way into the network (`gains`), so that they stay as small as
        they are until then; others as they are read, converted from then on."""
        self.change = change
        if all(_in_dn(self.bands[number]) for number in self.sar_channels):
            if change.stretch == 1:
                return
            if self.dtype in (np.uint8, np.uint16):
                self.table, self._per_dn = change.table(256**self.dtype.itemsize, self.nodata)
                return
        bands = list(self.bands)
        for number in self.sar_channels:
            band = bands[number]
            bands[number] = replace(
                band,
                wanted_unit="amplitude_dn" if band.delivered_unit == UNKNOWN_UNIT else band.delivered_unit,
                nodata=band.nodata if band.converted else self.sar_nodata,
                marks_zeros=self.edge_zeros is not None,
                change=change,
            )
        self.bands, self.sar_nodata = tuple(bands), None
        if self.edge_zeros is not None:
            self.edge_zeros = replace(
                self.edge_zeros, bands=tuple(bands[number] for number in self.sar_channels), nodata=None
            )

    @property
    def gains(self) -> tuple[float, ...]:
        """By what a backend multiplies the pixels of each channel that `strips` gives; empty for nothing."""
        if not self.change or self.bands[self.sar_channels[0]].change:
            return ()
        factor = 10 ** (self.change.gain_db / 20) if self.table is None else self._per_dn
        return tuple(factor if number in self.sar_channels else 1.0 for number in range(len(self.bands)))

    @property
    def strips_nodata(self) -> float | None:
        """As `nodata`, of what `strips` gives."""
        return self.nodata if self.table is None or self.nodata is None else 0.0

    def look_through(self, rows_at_a_time: int = 1024) -> None:
        """Read all of the window once: damage shows, and values that cannot be in the unit; the valid extent is noted.
        For those who read the same scene again and again, in small windows. Raises as `read`."""
        whole = Window(0, 0, self.scene.width_px, self.scene.height_px)
        zeros = self.edge_zeros if self.window == whole else None
        look = ExtentLook(self.width_px, self.height_px, zeros is not None and zeros.solid_is_fill)
        for row in range(0, self.height_px, rows_at_a_time):
            count = min(rows_at_a_time, self.height_px - row)
            self.read(row, count)
            if zeros is not None:
                look.add(zeros.empty(self._rows(row, count)))
        if zeros is not None and (zeros.cleared or not zeros.zero_is_level):
            zeros.extent = look.extent()
        self.bands = tuple(replace(band, trusted=True) for band in self.bands)

    def read(self, row: int, count: int) -> tuple[Pixels, Bool | None]:
        """Rows [row, row + count) of the window: (C, count, W) pixels, and (count, W) validity where it takes more
        than `nodata` to tell.

        Raises SceneUnreadable where a block cannot be decoded, UnitMismatch where the pixels cannot be the amplitudes
        that they are taken for.
        """
        rows = np.empty((len(self.bands), count, self.width_px), self.dtype)
        return rows, self._read_into(rows, row)

    def read_valid(self, row: int, count: int) -> tuple[Pixels, Bool]:
        """As `read`, with the validity (count, W) of every pixel in any case."""
        rows, valid = self.read(row, count)
        if valid is None:
            valid = np.ones(rows.shape[1:], bool) if self.nodata is None else (rows != self.nodata).any(axis=0)
        return rows, valid

    def _read_into(self, rows: Pixels, row: int) -> Bool | None:
        window = self._rows(row, rows.shape[1])
        for channel, band in zip(rows, self.bands, strict=True):
            band.read_into(channel, window)
        valid: Bool | None = self.scene.read_mask(window)
        if self.edge_zeros is not None:
            sar_rows = rows if len(self.sar_channels) == len(rows) else rows[list(self.sar_channels)]
            self._clear(rows, self.edge_zeros.beyond(sar_rows, window))
            self._restore_zeros(rows)
        if self.within_noise is not None:
            self._clear(rows, self.within_noise.outside(window))
        self._refuse_other_units(rows)
        if rows.dtype.kind == "f":
            finite: Bool = np.asarray(np.isfinite(rows).all(axis=0))
            rows[:, ~finite] = 0
            valid = finite if valid is None else finite & valid
        if self.sar_nodata is not None and (valid is not None or self.nodata is None):
            known: Bool = np.asarray((rows[list(self.sar_channels)] != self.sar_nodata).any(axis=0))
            valid = known if valid is None else known & valid
        return valid

    def _clear(self, rows: Pixels, beyond: Bool) -> None:
        """Set the backscatter of what is `beyond` (H, W) to nodata, or to NaN where the scene has no value for it."""
        if beyond.any():
            for channel in self.sar_channels:
                rows[channel][beyond] = np.nan if self.sar_nodata is None else self.sar_nodata

    def _restore_zeros(self, rows: Pixels) -> None:
        """Zeros inside the valid extent are levels."""
        for channel in self.sar_channels:
            if self.bands[channel].marks_zeros:
                inside = rows[channel] == -np.inf
                if inside.any():
                    rows[channel][inside] = self.bands[channel].of_zero

    def shadow(self, row: int, count: int) -> Bool | None:
        """(count, W) True in radar shadow or layover; None where the product does not tell. For another thread."""
        shadow = self.scene.shadow
        return None if shadow is None else shadow.shadow(self._rows(row, count))

    def _rows(self, row: int, count: int) -> Window:
        return Window(self.window.x_px, self.window.y_px + row, self.width_px, count)

    def strips(self, plan: TilePlan, see: See | None = None) -> Iterator[tuple[Pixels, Bool | None]]:
        """The pixels of each tile row of `plan`, north to south; what two of them share is read once.

        The plan is that of the upsampled scene, if it is (`upsampling_factor`). `see` is called with every row of the
        scene itself once: (row, pixels, validity).
        """
        factor = self.upsampling_factor
        rows = np.empty((len(self.bands), 0, self.width_px), self.dtype)
        valid: Bool | None = None
        end = 0
        for span in plan.rows:
            start, stop = span.start // factor, min(-(-(span.start + plan.tile_px) // factor), self.height_px)
            keep = end - start
            strip = np.empty((len(self.bands), stop - start, self.width_px), self.dtype)
            strip[:, :keep] = rows[:, rows.shape[1] - keep :]
            fresh_valid = self._read_into(strip[:, keep:], end)
            if see:
                see(end, strip[:, keep:], fresh_valid)
            if fresh_valid is not None and valid is not None:
                fresh_valid = np.concatenate([valid[len(valid) - keep :], fresh_valid])
            rows, valid, end = strip, fresh_valid, stop
            shown = self._shown(rows)
            if factor == 1:
                yield shown, valid
                continue
            part = slice(span.start - start * factor, span.start + plan.tile_px - start * factor)
            yield upsampled(shown, factor)[:, part], None if valid is None else upsampled(valid, factor)[part]

    def _shown(self, rows: Pixels) -> Pixels:
        """(C, H, W) `rows` as the network is to see them, but for `gains`."""
        if self.table is None:
            return rows
        shown = rows.astype(np.uint16)
        for channel in self.sar_channels:
            np.take(self.table, rows[channel], out=shown[channel])
        return shown

    def _refuse_other_units(self, rows: Pixels) -> None:
        """What has not said that it is no amplitude, and is none."""
        first = self.bands[self.sar_channels[0]]
        if first.trusted or first.change or first.unit not in ("amplitude_dn", UNKNOWN_UNIT):
            return  # a band that brightens has looked at its values before
        if first.converted and first.delivered_unit != "amplitude_dn":
            return
        if why := unlike_amplitude(rows[self.sar_channels[0]], self.sar_nodata):
            raise UnitMismatch(f"{self.name}: {why} {IN_SETTINGS}")

    def close(self) -> None:
        """Close the files. What is known of the scene stays: size, georeference, units, notes."""
        self.scene.close()
        self.bands = tuple(band.detached for band in self.bands)
        if self.edge_zeros is not None:
            self.edge_zeros.bands = tuple(band.detached for band in self.edge_zeros.bands)

    def __enter__(self) -> ModelInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_SILENT_FORMATS = ("GeoTIFF", "ENVI")


def _in_dn(band: Band) -> bool:
    """Whether its pixels are given as they are stored: integers, amplitudes."""
    return band.dtype.kind in "iu" and band.unit in ("amplitude_dn", UNKNOWN_UNIT)


def _as_stated(band: Band, request: Request) -> Band:
    """`band` as the request says that it is. Raises UsageError for a constant of what is no DN."""
    constant_db = request.calibration_constant_db
    if constant_db is not None:
        unit = request.unit or (band.unit if band.unit in AMPLITUDE_UNITS else "sigma0_amplitude")
        in_dn = band.unit in ("amplitude_dn", UNKNOWN_UNIT, *AMPLITUDE_UNITS)
        linear = request.scale is not None or request.offset is not None
        if unit not in AMPLITUDE_UNITS or not in_dn or linear:
            raise UsageError(
                f"calibration_constant_db {constant_db:g} is of amplitudes in DN, but pixels are "
                f"{request.unit or band.unit}; leave --calibration-constant-db out, or --unit, --scale and --offset"
            )
        scale, by = 10 ** (constant_db / 20), "--calibration-constant-db"
        return replace(band, unit=unit, scale=scale, offset=0.0, calibration=None, stated_by=by)
    if request.unit:
        of_dn = request.unit == "amplitude_dn" and band.unit in AMPLITUDE_UNITS
        band = replace(band, scale=1.0, offset=0.0, stated_by="") if of_dn else band
        band = replace(band, unit=request.unit, foreign_dn=False)
    if request.scale is not None:
        band = replace(band, scale=request.scale, offset=0.0, stated_by="--scale")
    if request.offset is not None:
        by = "--offset" if request.scale is None else "--scale and --offset"
        band = replace(band, offset=request.offset, stated_by=by)
    return band


def _nodata_of(scene: Scene, request: Request) -> float | None:
    """The request's, the file's, or what goes with the unit that the request states. Raises UsageError for a value that
    no pixel can have; what the file declares of that kind counts as nothing."""
    stored = scene.bands[0].stored_dtype
    dtype = np.dtype(np.complex64) if scene.bands[0].quadrature else stored
    if request.nodata is not None:
        if not can_hold(stored, request.nodata):
            raise UsageError(f"nodata {request.nodata:g}: no pixel of {stored} has it; leave --nodata out")
        return request.nodata
    declared = scene.declared_nodata
    impossible = declared is not None and not can_hold(stored, declared)
    if impossible or (request.unit and declared is None):
        return nodata_of(dtype, request.unit or scene.bands[0].unit)
    return scene.nodata


def _refuse_what_is_said_beside(scene: Scene, band: Band, request: Request) -> None:
    """Raises UnitMismatch: without it, decibels would be amplitudes."""
    if scene.said_beside and band.silent and request.unit is None:
        raise UnitMismatch(f"{scene.name}: {scene.said_beside}")


def _within_noise(scene: Scene, band: Band) -> ValidExtent | None:
    in_dn = band.unit == "amplitude_dn" and not band.scaled and band.stored_dtype.kind in "iu"
    if not scene.border_noise or not (in_dn or band.unit in CALIBRATED_UNITS):
        return None
    needs_zeros = scene.format == "GeoTIFF"
    return extent_without_noise(band, scene.width_px, scene.height_px, needs_zeros=needs_zeros)
