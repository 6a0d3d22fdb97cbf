"""A picture of the scene for people: SAR in decibels with the water's outline, north up, with scale bar and legend."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from runtime.latency import LatencyRecord
from runtime.products.base import Making, Product
from runtime.products.sheet import Caption, Layers, sheet_of
from runtime.products.speckle import calmed
from sarwater import __version__
from sarwater.classes import SHADOW, WATER
from sarwater.dependencies import lazy_import
from sarwater.request import Request
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.ground import Ground
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.raster import gdal, gdal_array

Image, PngImagePlugin = (
    lazy_import(f"PIL.{name}", "drawing quicklooks", "pip install pillow") for name in ("Image", "PngImagePlugin")
)
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

LONG_SIDE_PX = 1600
_SAMPLES = 3
"""Pixels looked at per picture pixel and axis, at least where the scene has them: enough to calm the speckle."""
_GRID = 9
"""Places along each axis by which the picture is brought north up."""
_STRETCH_PERCENT = (2.0, 98.0)
_UNSURE_PERCENT = (30, 70)
"""Probabilities of water between these are shown as unsure."""


@dataclass(frozen=True)
class _Echoes:
    """Sums over the samples of each pixel of the picture, (h, w) float32 each."""

    power: Float32
    count: Float32


class Quicklook(Product):
    """Gathers block means while the scene is read (`see`, from the reading thread) and while rows are finished."""

    name = "quicklook"
    suffix = "_quicklook.png"
    help = "the scene in decibels with the water's outline, north up; PNG"
    asset_name = "quicklook"
    sees = True
    asset: ClassVar[Mapping[str, Any]] = {
        "type": "image/png",
        "title": "SAR in decibels with the water's outline",
        "roles": ["overview", "visual"],
    }

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        super().__init__(path, scene, request)
        self._title = path.name.removesuffix(self.suffix)
        self._factor = math.ceil(max(scene.height_px, scene.width_px) / LONG_SIDE_PX)
        self._step = max(1, self._factor // _SAMPLES)
        shape = (math.ceil(scene.height_px / self._factor), math.ceil(scene.width_px / self._factor))
        self.seen = _Echoes(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        self._water, self._unsure, self._hidden = (np.zeros(shape, np.float32) for _ in range(3))
        columns = np.arange(0, scene.width_px, self._step) // self._factor
        self._sampled, self._starts = np.unique(columns, return_index=True)  # a sliver at the edge may have no sample

    @classmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                return dict(picture.text)
        except OSError:
            return {}

    def see(self, row: int, rows: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None) -> None:
        """Pixels (C, n, W) of the scene from `row` on; the first channel is shown."""
        unit, nodata = self.scene.bands[0].delivered_unit, self.scene.nodata
        for line, part in self._lines(row, rows.shape[1]):
            values = rows[0, part, :: self._step].astype(np.float32)
            known = np.ones(values.shape, bool) if valid is None else valid[part, :: self._step]
            if nodata is not None:
                known = known & (values != nodata)
            power: Float32 = values * values
            if unit.startswith("sigma0"):
                power = values if unit == "sigma0_linear" else np.power(np.float32(10), values / 10)
            self._add(self.seen.power[line], np.where(known, power, np.float32(0)))
            self._add(self.seen.count[line], known)

    def write(self, finished: FinishedRows) -> None:
        low, high = _UNSURE_PERCENT
        for line, part in self._lines(finished.row, len(finished.mask)):
            mask, percent = finished.mask[part, :: self._step], finished.confidence[part, :: self._step]
            self._add(self._water[line], mask == WATER)
            self._add(self._unsure[line], (percent > low) & (percent < high))
            if self.scene.scene.shadow is not None:
                self._add(self._hidden[line], mask == SHADOW)

    def sheet(self, record: LatencyRecord) -> Any:
        """The picture with its caption, a PIL image, once all rows are written."""
        layers, georeference = self._layers(), self.scene.georeference.scaled(self._factor)
        height, width = layers.grey.shape
        ground, pixel_m = georeference.ground(width, height), georeference.pixel_m(width, height)
        if ground is not None and pixel_m is not None and not georeference.is_north_up:
            layers, georeference = _warped(layers, ground)
            height, width = layers.grey.shape
            ground, pixel_m = georeference.ground(width, height), georeference.pixel_m(width, height)
        corners = _corners(ground, width, height) if pixel_m else ()
        return sheet_of(layers, Caption(self._title, self._facts(record), corners, pixel_m))

    def finish(self, making: Making) -> None:
        sheet = self.sheet(making.record)
        texts = PngImagePlugin.PngInfo()
        for name, text in making.tags.items():
            texts.add_text(name, text)
        self._attempt(lambda: sheet.save(self.path, pnginfo=texts, compress_level=1))

    def close(self) -> None:
        """Nothing is held open."""

    def _lines(self, row: int, count: int) -> Iterator[tuple[int, slice]]:
        """Of the `count` scene rows from `row` on: each line of the picture, and which of them are looked at for it.
        One line at a time stays in the processor's cache."""
        for line in range(row // self._factor, (row + count - 1) // self._factor + 1):
            first = max(line * self._factor, row)
            first += -first % self._step
            end = min((line + 1) * self._factor, row + count)
            if first < end:
                yield line, slice(first - row, end - row, self._step)

    def _add(self, line: Float32, samples: npt.NDArray[np.generic]) -> None:
        """Add (n, w) samples to the (picture width,) sums that they belong to."""
        line[self._sampled] += np.add.reduceat(samples.sum(axis=0, dtype=np.float32), self._starts)

    def _layers(self) -> Layers:
        """As the scene lies."""
        seen = self.seen.count
        count = np.maximum(seen, 1)
        power = calmed(self.seen.power / count, seen)
        decibels = 10 * np.log10(np.maximum(power, np.float32(1e-9)))
        echoes = power > 0
        low, high = map(float, np.percentile(decibels[echoes], _STRETCH_PERCENT)) if echoes.any() else (0.0, 1.0)
        grey = np.clip((decibels - low) * np.float32(255 / max(high - low, 1e-6)), 0, 255)
        shares = (np.minimum(cover / count, 1) * 255 for cover in (self._water, self._unsure, self._hidden))
        return Layers(*(np.asarray(layer + np.float32(0.5), np.uint8) for layer in (grey, *shares, (seen > 0) * 255)))

    def _facts(self, record: LatencyRecord) -> list[str]:
        scene = self.scene.scene
        pixel_m = self.scene.pixel_m
        of_scene = (
            scene.format,
            self.scene.bands[0].label,
            scene.acquired,
            f"{pixel_m:.3g} m pixels" if pixel_m else "",
        )
        model = f"{record.model} {record.precision} {(record.engine_sha256 or '')[:8]}"
        return [
            "   ".join(filter(None, of_scene)),
            _water_in_words(record),
            f"{model}   sarwater {__version__}",
        ]


def _water_in_words(record: LatencyRecord) -> str:
    """`water 0.431 km2, 12.3 %   shadow 1.2 %`: of the pixels that were measured."""
    water_px, hidden_px = record.water_px or 0, record.shadow_px or 0
    measured_px = water_px + hidden_px + (record.land_px or 0)
    if not measured_px:
        return "nothing was measured"
    area = "" if record.water_km2 is None else f"{record.water_km2:.3g} km2, "
    hidden = f"   radar shadow or layover {100 * hidden_px / measured_px:.1f} %" if hidden_px else ""
    return f"water {area}{100 * water_px / measured_px:.1f} %{hidden}"


def _corners(ground: Ground | None, width_px: int, height_px: int) -> tuple[str, ...]:
    """Where they lie, in words, row by row; none where it is not known."""
    corners = np.array([(x, y) for y in (0.0, height_px) for x in (0.0, width_px)])
    try:
        lonlat = ground.to_lonlat(corners).tolist() if ground else []
    except RuntimeError:
        return ()
    return tuple(f"{abs(y):.4f}° {'NS'[y < 0]}  {abs(x):.4f}° {'EW'[x < 0]}" for x, y in lonlat)


def _warped(layers: Layers, ground: Ground) -> tuple[Layers, Georeference]:
    """The layers in the plane about the scene, and where they lie. Raises RuntimeError."""
    height, width = layers.grey.shape
    source = gdal_array.OpenArray(np.stack(dataclasses.astuple(layers)))
    grid = np.array([(x, y) for y in np.linspace(0, height, _GRID) for x in np.linspace(0, width, _GRID)])
    places = zip(grid.tolist(), ground.to_plane(grid).tolist(), strict=True)
    source.SetGCPs([gdal.GCP(x, y, 0, pixel, line) for (pixel, line), (x, y) in places], ground.plane_wkt)
    target = gdal.Warp("", source, format="MEM", tps=True, resampleAlg="average")
    return Layers(*target.ReadAsArray()), Georeference.of(target)
