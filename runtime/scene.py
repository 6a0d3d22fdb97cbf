"""A SAR scene as the network sees it: channels in the manifest's order, row bands, nodata, georeference.

with open_scene(path, manifest.channels) as scene:
    plan = backend.plan(scene.height_px, scene.width_px)
    for rows, valid in scene.bands(plan):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from runtime.channels import choose_layers
from runtime.formats import open_product
from runtime.formats.georeference import Georeference
from runtime.formats.layer import UNKNOWN_UNIT, Layer
from runtime.formats.product import Product
from runtime.job import SceneOptions, Window
from sarwater.amplitude import unlike_amplitude
from sarwater.enlargement import enlarged
from sarwater.errors import UnitMismatch, UsageError
from sarwater.manifest import Channel
from sarwater.swath import beyond_swath, is_empty, measured_columns
from sarwater.tiling import TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

See = Callable[[int, Pixels, Bool | None], None]

SHADOW = 2
"""Mask value of pixels in radar shadow or layover: measured, but not classified."""


@dataclass
class Scene:
    """An opened product, cut to a window. A context manager: leaving it closes the files. One thread reads."""

    path: Path
    product: Product
    layers: tuple[Layer, ...]
    """One per channel of the model."""
    window: Window
    sar_channels: tuple[int, ...]
    """Which of them are backscatter; the others (incidence angles) do not tell where something was measured."""
    sar_nodata: float | None
    """Pixel value that means that nothing was measured; None where there is none, or NaN stands for it."""
    zero_beyond_swath: bool = False
    """Whether zeros that reach in from the left or right edge of the product are taken for nodata."""
    enlarged_by: int = 1
    """How many copies of each pixel `bands` gives along each axis (sarwater/enlargement.py)."""
    _cleared: bool = False
    """Whether some were."""

    @property
    def nodata(self) -> float | None:
        """What a backend may compare every channel with; None where `bands` yields a validity mask instead."""
        return self.sar_nodata if len(self.sar_channels) == len(self.layers) else None

    @property
    def height_px(self) -> int:
        return self.window.height_px

    @property
    def width_px(self) -> int:
        return self.window.width_px

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the bands: the sensor's own, or float32 where layers differ or values are derived."""
        return np.result_type(*(layer.dtype for layer in self.layers))

    @property
    def georeference(self) -> Georeference:
        return self.product.georeference.shifted(self.window.x_px, self.window.y_px)

    @property
    def pixel_m(self) -> float | None:
        """Pixel spacing on the ground; None where it is not known."""
        return self.product.georeference.pixel_m(self.product.width_px, self.product.height_px)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever uses the products should know, in plain words."""
        notes = list(self.product.notes)
        if not self.georeference.known:
            notes.append("the scene has no georeference: products are in rows and columns")
        if self.enlarged_by > 1:
            notes.append(
                f"pixels are coarser than the model knows: it saw each {self.enlarged_by} times along each axis"
            )
        for layer in self.layers:
            if layer.converted:
                notes.append(f"{layer.label}: {layer.unit} was converted to {layer.delivered_unit}")
        if self._cleared:
            notes.append(
                "zeros that reach in from the left or right edge were taken for nodata; --nodata says otherwise"
            )
        return tuple(notes)

    def read(self, row: int, count: int) -> tuple[Pixels, Bool | None]:
        """Rows [row, row + count) of the window: (C, count, W) pixels, and (count, W) validity where it takes more
        than `nodata` to tell.

        Raises SceneUnreadable where a block cannot be decoded, UnitMismatch where the pixels cannot be the amplitudes
        that they are taken for.
        """
        rows = np.empty((len(self.layers), count, self.width_px), self.dtype)
        return rows, self._read_into(rows, row)

    def _read_into(self, rows: Pixels, row: int) -> Bool | None:
        window = self._rows(row, rows.shape[1])
        for channel, layer in zip(rows, self.layers, strict=True):
            layer.read_into(channel, window)
        valid: Bool | None = self.product.read_mask(window)
        if self.zero_beyond_swath:
            self._clear_beyond_swath(rows, window)
        self._refuse_other_units(rows)
        if rows.dtype.kind == "f":
            finite: Bool = np.asarray(np.isfinite(rows).all(axis=0))
            rows[:, ~finite] = 0
            valid = finite if valid is None else finite & valid
        if self.sar_nodata is not None and (valid is not None or self.nodata is None):
            known: Bool = np.asarray((rows[list(self.sar_channels)] != self.sar_nodata).any(axis=0))
            valid = known if valid is None else known & valid
        return valid

    def _clear_beyond_swath(self, rows: Pixels, window: Window) -> None:
        """Set what is no measurement to nodata, or to NaN where the scene has no value for it."""
        sar = list(self.sar_channels)
        ends = is_empty(rows[:, :, [0, -1]][sar], self.sar_nodata)
        cut = np.flatnonzero(ends.any(axis=1))
        if not cut.size:
            return
        first, end = measured_columns(is_empty(rows[:, cut][sar], self.sar_nodata))
        right_px = window.x_px + window.width_px
        # The edge of a window is not that of the swath: zeros have to go on to the edge of the product.
        first[~self._empty_to(0, window.x_px, window)[cut]] = 0
        end[~self._empty_to(right_px, self.product.width_px, window)[cut]] = self.width_px
        beyond = np.zeros(rows.shape[1:], bool)
        beyond[cut] = beyond_swath(first, end, np.arange(self.width_px))
        self._cleared = self._cleared or bool((rows[sar[0]][beyond] == 0).any())
        for channel in sar:
            rows[channel][beyond] = np.nan if self.sar_nodata is None else self.sar_nodata

    def _empty_to(self, left_px: int, right_px: int, window: Window) -> Bool:
        """(height of the window,) True where its rows hold nothing from column `left_px` of the product to
        `right_px`."""
        if left_px == right_px:
            return np.ones(window.height_px, bool)
        beside = Window(left_px, window.y_px, right_px - left_px, window.height_px)
        pixels = np.stack([self.layers[channel].read(beside) for channel in self.sar_channels])
        return np.asarray(is_empty(pixels, self.sar_nodata).all(axis=1))

    def shadow(self, row: int, count: int) -> Bool | None:
        """(count, W) True in radar shadow or layover; None where the product does not tell. For another thread."""
        shadow = self.product.shadow
        return None if shadow is None else shadow.shadow(self._rows(row, count))

    def _rows(self, row: int, count: int) -> Window:
        return Window(self.window.x_px, self.window.y_px + row, self.width_px, count)

    def bands(self, plan: TilePlan, see: See | None = None) -> Iterator[tuple[Pixels, Bool | None]]:
        """The pixels of each tile row of `plan`, north to south; what two of them share is read once.

        The plan is that of the enlarged scene, if it is (`enlarged_by`). `see` is called with every row of the scene
        itself once: (row, pixels, validity).
        """
        copies = self.enlarged_by
        rows = np.empty((len(self.layers), 0, self.width_px), self.dtype)
        valid: Bool | None = None
        end = 0
        for span in plan.rows:
            start, stop = span.start // copies, min(-(-(span.start + plan.tile_px) // copies), self.height_px)
            keep = end - start
            band = np.empty((len(self.layers), stop - start, self.width_px), self.dtype)
            band[:, :keep] = rows[:, rows.shape[1] - keep :]
            fresh_valid = self._read_into(band[:, keep:], end)
            if see:
                see(end, band[:, keep:], fresh_valid)
            if fresh_valid is not None and valid is not None:
                fresh_valid = np.concatenate([valid[len(valid) - keep :], fresh_valid])
            rows, valid, end = band, fresh_valid, stop
            if copies == 1:
                yield rows, valid
                continue
            part = slice(span.start - start * copies, span.start + plan.tile_px - start * copies)
            yield enlarged(rows, copies)[:, part], None if valid is None else enlarged(valid, copies)[part]

    def _refuse_other_units(self, rows: Pixels) -> None:
        """What has not said that it is no amplitude, and is none."""
        first = self.layers[self.sar_channels[0]]
        if first.converted or first.unit not in ("amplitude_dn", UNKNOWN_UNIT):
            return
        if why := unlike_amplitude(rows[self.sar_channels[0]], self.sar_nodata):
            raise UnitMismatch(
                f"{self.path.name}: {why}: state that with --unit, as sigma0_db or sigma0_linear, or the value of its "
                "nodata with --nodata (in the daemon: `unit`, `nodata`)"
            )

    def close(self) -> None:
        self.product.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_scene(path: Path, channels: Sequence[Channel], options: SceneOptions | None = None) -> Scene:
    """Open the product at `path` (a file or a product folder) for a model's `channels`.

    Raises SceneMissing, SceneEmpty, SceneTruncated, SceneUnreadable, SceneUnsafe, ChannelMissing, UnitMismatch, and
    UsageError for a window outside the scene.
    """
    options = options or SceneOptions()
    product = open_product(path, options.limits)
    try:
        if options.unit:
            product.layers = tuple(replace(layer, unit=options.unit) for layer in product.layers)
        nodata = product.nodata if options.nodata is None else options.nodata
        layers = choose_layers(product, path.name, channels, options.polarisations, nodata)
        sar = tuple(number for number, channel in enumerate(channels) if channel.name != "gim")
        whole = Window(0, 0, product.width_px, product.height_px)
        window = _inside(options.window or whole, whole)
        first = layers[sar[0]]
        zero_beyond_swath = _zero_beyond_swath(first, nodata, options)
        sar_nodata = None if first.converted else nodata
        return Scene(path, product, layers, window, sar, sar_nodata, zero_beyond_swath=zero_beyond_swath)
    except BaseException:
        product.close()
        raise


def _zero_beyond_swath(layer: Layer, nodata: float | None, options: SceneOptions) -> bool:
    """Not where zeros are nodata anyway, not where zero is a level (decibels), and not where somebody has said what
    nodata is."""
    in_db = layer.delivered_unit.endswith("_db")
    float_without_nodata = nodata is None and layer.dtype.kind == "f"
    return options.nodata is None and not in_db and (bool(nodata) or float_without_nodata)


def _inside(window: Window, whole: Window) -> Window:
    if (
        min(window.x_px, window.y_px) < 0
        or min(window.width_px, window.height_px) < 1
        or window.x_px + window.width_px > whole.width_px
        or window.y_px + window.height_px > whole.height_px
    ):
        raise UsageError(f"--window {window}: not inside the scene of {whole.width_px} x {whole.height_px} px")
    return window
