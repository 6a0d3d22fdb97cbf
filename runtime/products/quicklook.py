"""A picture of the scene for people: SAR in decibels, water overlaid, north up, with scale bar and legend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from runtime.products.base import Making, Product
from sarwater.classes import CLASSES, COLOURS, SHADOW, WATER
from sarwater.dependencies import lazy_import
from sarwater.request import Request
from sarwater.scenes.ground import Ground
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.raster import gdal, gdal_array

Image, ImageDraw, ImageFont, PngImagePlugin = (
    lazy_import(f"PIL.{name}", "drawing quicklooks", "pip install pillow")
    for name in ("Image", "ImageDraw", "ImageFont", "PngImagePlugin")
)
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

LONG_SIDE_PX = 1600
_SAMPLES = 3
"""Pixels looked at per picture pixel and axis, at least where the scene has them: enough to calm the speckle."""
_GRID = 9
"""Places along each axis by which the picture is brought north up."""
_STRETCH_PERCENT = (2.0, 98.0)
_OVERLAY_OPACITY = 0.6
_FOOTER_PX = 64
_INK, _PAPER = (24, 28, 36), (250, 250, 247)


@dataclass(frozen=True)
class _Echoes:
    """Sums over the samples of each pixel of the picture, (h, w) float32 each."""

    power: Float32
    count: Float32


class Quicklook(Product):
    """Gathers block means while the scene is read (`see`, from the reading thread) and while rows are finished."""

    name = "quicklook"
    suffix = "_quicklook.png"
    help = "the scene in decibels with water overlaid, north up; PNG"
    asset_name = "quicklook"
    sees = True
    asset: ClassVar[Mapping[str, Any]] = {
        "type": "image/png",
        "title": "SAR in decibels with water",
        "roles": ["overview", "visual"],
    }

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        super().__init__(path, scene, request)
        self._title = path.name.removesuffix(self.suffix)
        self._factor = math.ceil(max(scene.height_px, scene.width_px) / LONG_SIDE_PX)
        self._step = max(1, self._factor // _SAMPLES)
        shape = (math.ceil(scene.height_px / self._factor), math.ceil(scene.width_px / self._factor))
        self.seen = _Echoes(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        self._water, self._shadow = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._covers = ((WATER, self._water), (SHADOW, self._shadow))
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
        for line, part in self._lines(finished.row, len(finished.mask)):
            mask = finished.mask[part, :: self._step]
            self._add(self._water[line], mask == WATER)
            if self.scene.scene.shadow is not None:
                self._add(self._shadow[line], mask == SHADOW)

    def sheet(self) -> Any:
        """The picture with its footer, a PIL image, once all rows are written."""
        image, metres_per_px = self._picture()
        height, width, _ = image.shape
        sheet = Image.new("RGB", (max(width, 480), height + _FOOTER_PX), _PAPER)
        sheet.paste(Image.fromarray(image), (0, 0))
        self._footer(ImageDraw.Draw(sheet), sheet.width, height, metres_per_px)
        return sheet

    def finish(self, making: Making) -> None:
        sheet = self.sheet()
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

    def _picture(self) -> tuple[UInt8, float | None]:
        """((H, W, 3) uint8 north up, metres per pixel), or as it lies and None where the ground is unknown."""
        power, seen = self.seen.power, self.seen.count
        count = np.maximum(seen, 1)
        decibels = 10 * np.log10(np.maximum(power / count, np.float32(1e-9)))
        echoes = power > 0
        low, high = map(float, np.percentile(decibels[echoes], _STRETCH_PERCENT)) if echoes.any() else (0.0, 1.0)
        grey = np.clip((decibels - low) * np.float32(255 / max(high - low, 1e-6)), 0, 255)
        colours = np.empty((*grey.shape, 4), np.uint8)
        covers = [(value, cover / count) for value, cover in self._covers if cover.any()]
        for channel in range(3):
            shade = grey + np.float32(0.5)
            for value, share in covers:
                shade += (COLOURS[value][channel] - grey) * np.minimum(share, 1) * np.float32(_OVERLAY_OPACITY)
            colours[..., channel] = shade
        colours[..., 3] = np.where(seen > 0, 255, 0)
        return self._north_up(colours)

    def _north_up(self, colours: UInt8) -> tuple[UInt8, float | None]:
        georeference, size_px = self.scene.georeference.scaled(self._factor), (colours.shape[1], colours.shape[0])
        ground, metres_per_px = georeference.ground(*size_px), georeference.pixel_m(*size_px)
        if ground is not None and metres_per_px is not None and not georeference.is_north_up:
            colours, metres_per_px = _warped(colours, ground)
        if (colours[..., 3] == 255).all():
            return colours[..., :3], metres_per_px
        opacity = colours[..., 3:] / np.float32(255)
        on_paper = colours[..., :3] * opacity + np.array(_PAPER, np.float32) * (1 - opacity)
        return (on_paper + 0.5).astype(np.uint8), metres_per_px

    def _footer(self, draw: Any, width: int, top: int, metres_per_px: float | None) -> None:
        font = ImageFont.load_default(15)
        line = top + 10
        acquired = self.scene.scene.acquired
        draw.text((12, line), f"{self._title}   {acquired or ''}".strip(), _INK, font)
        x = 12
        shown = [WATER, *([SHADOW] if self._shadow.any() else [])]
        for value in shown:
            draw.rectangle((x, line + 28, x + 22, line + 42), COLOURS[value][:3])
            text = CLASSES[value].split(",")[0]
            draw.text((x + 30, line + 26), text, _INK, font)
            x += 48 + round(draw.textlength(text, font))
        if metres_per_px is None:
            draw.text((width - 12, line + 26), "no georeference: north and scale unknown", _INK, font, anchor="ra")
            return
        length_m = round_length(metres_per_px * width / 5)
        length_px = round(length_m / metres_per_px)
        right = width - 40
        draw.rectangle((right - length_px, line + 36, right, line + 41), _INK)
        label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
        draw.text((right - length_px / 2, line + 16), label, _INK, font, anchor="ma")
        draw.polygon(
            [(width - 20, line + 8), (width - 27, line + 30), (width - 20, line + 25), (width - 13, line + 30)], _INK
        )
        draw.text((width - 20, line + 31), "N", _INK, font, anchor="ma")


def round_length(metres: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer than `metres`."""
    power = 10.0 ** math.floor(math.log10(metres))
    return max(step * power for step in (1, 2, 5) if step * power <= metres)


def _warped(colours: UInt8, ground: Ground) -> tuple[UInt8, float]:
    """((H, W, 4) colours in the plane about the scene, metres per pixel). Raises RuntimeError."""
    height, width, _ = colours.shape
    source = gdal_array.OpenArray(np.ascontiguousarray(colours.transpose(2, 0, 1)))
    grid = np.array([(x, y) for y in np.linspace(0, height, _GRID) for x in np.linspace(0, width, _GRID)])
    places = zip(grid.tolist(), ground.to_plane(grid).tolist(), strict=True)
    source.SetGCPs([gdal.GCP(x, y, 0, pixel, line) for (pixel, line), (x, y) in places], ground.plane_wkt)
    target = gdal.Warp("", source, format="MEM", tps=True, resampleAlg="average")
    return target.ReadAsArray().transpose(1, 2, 0), target.GetGeoTransform()[1]
