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
from sarwater.scenes.band import Band
from sarwater.scenes.border_noise import extent_without_noise
from sarwater.scenes.channels import choose_bands
from sarwater.scenes.fill import fills_at_corners
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.level import Level
from sarwater.scenes.scene import Scene
from sarwater.scenes.units import AMPLITUDE_UNITS, FILLED, UNKNOWN_UNIT, nodata_of, unlike_amplitude
from sarwater.scenes.valid_extent import Columns, ValidExtent, is_empty, measured_columns, outside
from sarwater.tiling import TilePlan
from sarwater.upsampling import upsampled

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

_LOOK_ROWS = 256
"""Rows that are looked at together for where columns begin and end."""

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
    zeros_at_edges: bool = False
    """Whether stored zeros that reach in from an edge of the scene are taken for nodata."""
    fills: tuple[float, ...] = ()
    """Stored values other than `sar_nodata` that fill corners of the scene and were taken for nodata."""
    within_noise: ValidExtent | None = None
    """What lies within the border noise of the scene, where it has some."""
    level: Level | None = None
    """How bright the scene is, once somebody has looked (sarwater/scenes/level.py)."""
    upsampling_factor: int = 1
    """How often `strips` gives each pixel along each axis (sarwater/upsampling.py)."""
    valid_extent: ValidExtent | None = None
    """Of the scene, where somebody has looked at all of it."""
    _measured_rows: tuple[Columns, Columns] | None = None
    """First measured row of each column of the scene and the one after the last, once they were needed."""
    _cleared: bool = False
    """Whether some zeros at edges were taken for nodata."""

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
        return cls(
            scene=scene,
            bands=bands,
            window=scene.inside(request.window),
            sar_channels=sar,
            sar_nodata=None if first.converted else nodata,
            zeros_at_edges=zeros_at_edges,
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
        if gain_db := self.bands[self.sar_channels[0]].gain_db:
            notes.append(f"its level was changed by {gain_db:+.1f} dB to the usual one; --level given leaves it")
        elif self.level and not self.level.known:
            notes.append(self.level.said(self.sar_unit))
        for fill in self.fills:
            notes.append(f"{fill:g} fills a corner of the scene and was taken for nodata; --nodata says otherwise")
        if self.within_noise is not None:
            notes.append("border noise of an old processor was taken for nodata; --nodata says otherwise")
        if self._cleared:
            notes.append("zeros that reach in from an edge were taken for nodata; --nodata says otherwise")
        return tuple(notes)

    def cropped(self, window: Window) -> ModelInput:
        """The same scene, cut to a window of scene pixels. Raises UsageError where that lies outside of it."""
        return replace(self, window=self.scene.inside(window))

    def change_level(self, gain_db: float) -> None:
        """Brighten the channels of backscatter. All of them are converted from then on."""
        bands = list(self.bands)
        for number in self.sar_channels:
            band = bands[number]
            bands[number] = replace(
                band,
                wanted_unit="amplitude_dn" if band.delivered_unit == UNKNOWN_UNIT else band.delivered_unit,
                nodata=band.nodata if band.converted else self.sar_nodata,
                marks_zeros=self.zeros_at_edges,
                gain_db=gain_db,
            )
        self.bands, self.sar_nodata = tuple(bands), None

    def look_through(self, rows_at_a_time: int = 1024) -> None:
        """Read all of the window once: damage shows, and values that cannot be in the unit; the valid extent is noted.
        For those who read the same scene again and again, in small windows. Raises as `read`."""
        whole = Window(0, 0, self.scene.width_px, self.scene.height_px)
        look = self.zeros_at_edges and self.window == whole
        columns = []
        first_row, end_row = np.full(self.width_px, self.height_px), np.zeros(self.width_px, np.intp)
        for row in range(0, self.height_px, rows_at_a_time):
            count = min(rows_at_a_time, self.height_px - row)
            self.read(row, count)
            if look:
                empty = self._empty(self._rows(row, count))
                columns.append(measured_columns(empty))
                _note_rows(empty, row, first_row, end_row)
        if columns and (self._cleared or not self._zero_is_level):
            first, end = zip(*columns, strict=True)
            self.valid_extent = ValidExtent((np.concatenate(first), np.concatenate(end)), (first_row, end_row))
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
        if self.zeros_at_edges:
            self._clear_outside(rows, window)
            self._restore_zeros(rows)
        if self.within_noise is not None:
            noise = self.within_noise.outside(window)
            for channel in self.sar_channels:
                rows[channel][noise] = np.nan if self.sar_nodata is None else self.sar_nodata
        self._refuse_other_units(rows)
        if rows.dtype.kind == "f":
            finite: Bool = np.asarray(np.isfinite(rows).all(axis=0))
            rows[:, ~finite] = 0
            valid = finite if valid is None else finite & valid
        if self.sar_nodata is not None and (valid is not None or self.nodata is None):
            known: Bool = np.asarray((rows[list(self.sar_channels)] != self.sar_nodata).any(axis=0))
            valid = known if valid is None else known & valid
        return valid

    def _clear_outside(self, rows: Pixels, window: Window) -> None:
        """Set what is no measurement to nodata, or to NaN where the scene has no value for it."""
        sar = list(self.sar_channels)
        if self.valid_extent is not None:
            beyond = self.valid_extent.outside(window)
        else:
            beyond = self._beyond_columns(rows[sar], window) | self._beyond_rows(rows[sar], window)
        if beyond.any():
            zeros = (rows[sar[0]] == 0) | np.isneginf(rows[sar[0]])
            filled = int(np.count_nonzero(zeros & beyond))
            if self._zero_is_level and self.valid_extent is None and not self._cleared and filled <= FILLED:
                beyond &= ~zeros  # 0 dB by chance, at an edge
                filled = 0
            self._cleared = self._cleared or filled > 0
            for channel in sar:
                rows[channel][beyond] = np.nan if self.sar_nodata is None else self.sar_nodata

    @property
    def _zero_is_level(self) -> bool:
        return self.bands[self.sar_channels[0]].unit.endswith("_db")

    def _restore_zeros(self, rows: Pixels) -> None:
        """Zeros inside the valid extent are levels."""
        for channel in self.sar_channels:
            if self.bands[channel].marks_zeros:
                inside = np.isneginf(rows[channel])
                if inside.any():
                    rows[channel][inside] = self.bands[channel].of_zero

    def _beyond_columns(self, sar_rows: Pixels, window: Window) -> Bool:
        """(H, W) True where a row of `sar_rows` (C, H, W) holds nothing from there to the left or right edge."""
        beyond = np.zeros(sar_rows.shape[1:], bool)
        cut = np.flatnonzero(is_empty(sar_rows[:, :, [0, -1]], self.sar_nodata).any(axis=1))
        if cut.size:
            first, end = measured_columns(is_empty(sar_rows[:, cut], self.sar_nodata))
            right_px = window.x_px + window.width_px
            # The edge of a window is not that of the extent: zeros have to go on to the edge of the scene.
            first[~self._empty_to(0, window.x_px, window)[cut]] = 0
            end[~self._empty_to(right_px, self.scene.width_px, window)[cut]] = self.width_px
            beyond[cut] = outside(first, end, np.arange(self.width_px))
        return beyond

    def _beyond_rows(self, sar_rows: Pixels, window: Window) -> Bool:
        """The same for columns, and the upper and lower edge."""
        beyond = np.zeros(sar_rows.shape[1:], bool)
        cut = np.flatnonzero(is_empty(sar_rows[:, [0, -1]], self.sar_nodata).any(axis=0))
        if cut.size:
            first, end = measured_columns(is_empty(sar_rows[:, :, cut], self.sar_nodata).T)
            bottom_px = window.y_px + window.height_px
            if window.y_px > 0 or bottom_px < self.scene.height_px:
                scene_first, scene_end = (edge[window.x_px + cut] for edge in self._rows_of_columns())
                first[scene_first < window.y_px] = 0
                end[scene_end > bottom_px] = window.height_px
            beyond[:, cut] = outside(first, end, np.arange(window.height_px)).T
        return beyond

    def _rows_of_columns(self) -> tuple[Columns, Columns]:
        """First measured row of each column of the scene and the one after the last, (W,) each. Read once, from above
        and from below, no further than it takes."""
        if self._measured_rows is None:
            starts = range(0, self.scene.height_px, _LOOK_ROWS)
            first, _ = self._look_for_rows(starts)
            _, end = self._look_for_rows(starts[::-1])
            self._measured_rows = first, end
        return self._measured_rows

    def _look_for_rows(self, starts: range) -> tuple[Columns, Columns]:
        """Where columns are measured, in the first blocks of rows from `starts` that hold something of them."""
        height, width = self.scene.height_px, self.scene.width_px
        first, end = np.full(width, height), np.zeros(width, np.intp)
        for row in starts:
            waiting = np.flatnonzero(end == 0)
            if not waiting.size:
                break
            left, right = int(waiting[0]), int(waiting[-1]) + 1
            part = Window(left, row, right - left, min(_LOOK_ROWS, height - row))
            _note_rows(self._empty(part), row, first[left:right], end[left:right])
        return first, end

    def _empty(self, window: Window) -> Bool:
        bands = (replace(self.bands[channel], trusted=True) for channel in self.sar_channels)
        return is_empty(np.stack([band.read(window) for band in bands]), self.sar_nodata)

    def _empty_to(self, left_px: int, right_px: int, window: Window) -> Bool:
        """(height of the window,) True where its rows hold nothing from column `left_px` of the scene to `right_px`."""
        if left_px == right_px:
            return np.ones(window.height_px, bool)
        beside = Window(left_px, window.y_px, right_px - left_px, window.height_px)
        return np.asarray(self._empty(beside).all(axis=1))

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
            if factor == 1:
                yield rows, valid
                continue
            part = slice(span.start - start * factor, span.start + plan.tile_px - start * factor)
            yield upsampled(rows, factor)[:, part], None if valid is None else upsampled(valid, factor)[part]

    def _refuse_other_units(self, rows: Pixels) -> None:
        """What has not said that it is no amplitude, and is none."""
        first = self.bands[self.sar_channels[0]]
        if first.trusted or first.unit not in ("amplitude_dn", UNKNOWN_UNIT):
            return
        if first.converted and first.delivered_unit != "amplitude_dn":
            return
        if why := unlike_amplitude(rows[self.sar_channels[0]], self.sar_nodata):
            raise UnitMismatch(f"{self.name}: {why} (in settings: `unit`, `scale`, `nodata`)")

    def close(self) -> None:
        """Close the files. What is known of the scene stays: size, georeference, units, notes."""
        self.scene.close()
        self.bands = tuple(band.detached for band in self.bands)

    def __enter__(self) -> ModelInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _as_stated(band: Band, request: Request) -> Band:
    """`band` as the request says that it is. Raises UsageError for a constant of what is no DN."""
    constant_db = request.calibration_constant_db
    if constant_db is not None:
        unit = request.unit or (band.unit if band.unit in AMPLITUDE_UNITS else "sigma0_amplitude")
        in_dn = band.unit in ("amplitude_dn", UNKNOWN_UNIT, *AMPLITUDE_UNITS)
        if unit not in AMPLITUDE_UNITS or not in_dn or request.scale is not None:
            raise UsageError(
                f"calibration_constant_db {constant_db:g} is of amplitudes in DN, but pixels are "
                f"{request.unit or band.unit}; leave --calibration-constant-db or --unit and --scale out"
            )
        scale, by = 10 ** (constant_db / 20), "--calibration-constant-db"
        return replace(band, unit=unit, scale=scale, offset=0.0, calibration=None, stated_by=by)
    if request.unit:
        of_dn = request.unit == "amplitude_dn" and band.unit in AMPLITUDE_UNITS
        band = replace(band, scale=1.0, offset=0.0, stated_by="") if of_dn else band
        band = replace(band, unit=request.unit, foreign_dn=False)
    return band if request.scale is None else replace(band, scale=request.scale, offset=0.0, stated_by="--scale")


def _nodata_of(scene: Scene, request: Request) -> float | None:
    """The request's, the file's, or what goes with the unit that the request states."""
    if request.nodata is not None:
        return request.nodata
    if request.unit and scene.declared_nodata is None:
        dtype = np.dtype(np.complex64) if scene.bands[0].quadrature else scene.bands[0].stored_dtype
        return nodata_of(dtype, request.unit)
    return scene.nodata


def _within_noise(scene: Scene, band: Band) -> ValidExtent | None:
    if not scene.border_noise or band.unit != "amplitude_dn" or band.scaled or band.stored_dtype.kind not in "iu":
        return None
    needs_zeros = scene.format == "GeoTIFF"
    return extent_without_noise(band, scene.width_px, scene.height_px, needs_zeros=needs_zeros)


def _note_rows(empty: Bool, row: int, first: Columns, end: Columns) -> None:
    """Take down in `first` and `end`, (W,) each, where the columns of `empty` (n, W), which begins at `row`, are
    measured."""
    here_first, here_end = measured_columns(empty.T)
    measured = here_end > 0
    first[measured] = np.minimum(first[measured], row + here_first[measured])
    end[measured] = np.maximum(end[measured], row + here_end[measured])
