"""The quicklook as a sheet of paper: the scene with outlines and hatching, its corners' places, what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.dependencies import lazy_import
from sarwater.shown import shown

Image, ImageDraw, ImageFont = (
    lazy_import(f"PIL.{name}", "drawing quicklooks", "pip install pillow")
    for name in ("Image", "ImageDraw", "ImageFont")
)
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Colour = tuple[int, int, int]

INK: Colour = (24, 28, 36)
PAPER: Colour = (250, 250, 247)
WATER_LINE: Colour = (0, 150, 255)
UNSURE: Colour = (255, 170, 0)
HIDDEN: Colour = (205, 70, 190)
LEGEND = {"water": WATER_LINE, "low confidence": UNSURE, "radar shadow or layover": HIDDEN}

_ENLARGED_TO_PX = 800
"""Small scenes are enlarged by a whole factor, their longer side up to this."""
_NARROWEST_PX = 640
_WET = 64
"""Of 255. Pixels a quarter of which is water are inside of the outline: narrow rivers would be lost otherwise."""
_TINT = 0.16
_HATCH_EVERY_PX, _HATCH_PX = 9, 2
_MARGIN_PX = 12
_MOST_LINES = 3
_FONTS = ("NotoSansCJK-Regular.ttc", "NanumGothic.ttf", "DejaVuSans.ttf")
"""For scripts that the drawing library's own font lacks: the first that the system has."""


@dataclass(frozen=True)
class Layers:
    """What a picture is drawn of: (h, w) uint8 each. All but `grey` are shares of a pixel, 255 for all of it."""

    grey: UInt8
    water: UInt8
    unsure: UInt8
    hidden: UInt8
    """Radar shadow or layover."""
    seen: UInt8


@dataclass(frozen=True)
class Caption:
    """What stands around the picture."""

    title: str
    facts: Sequence[str]
    """A line each, below the title."""
    corners: Sequence[str]
    """Where the picture's upper left, upper right, lower left and lower right corners lie; none if not known."""
    pixel_m: float | None
    """Of the layers; None where the ground is unknown."""


def sheet_of(layers: Layers, caption: Caption) -> Any:
    """The picture and its caption as a PIL image."""
    factor = max(1, _ENLARGED_TO_PX // max(layers.grey.shape))
    picture = _picture(layers, factor)
    height, width, _ = picture.shape
    sheet_width = max(width, _NARROWEST_PX)
    size = min(24, max(15, sheet_width // 64))
    lines = [
        *_wrapped(shown(caption.title), size + 3, sheet_width),
        *_wrapped("\n".join(caption.facts), size, sheet_width),
    ]
    line_px, corner_px = round(1.45 * size), round(1.7 * size) if caption.corners else 0
    top = corner_px + height + corner_px
    sheet = Image.new("RGB", (sheet_width, top + (len(lines) + 2) * line_px + 2 * _MARGIN_PX), PAPER)
    sheet.paste(Image.fromarray(picture), ((sheet_width - width) // 2, corner_px))
    draw = ImageDraw.Draw(sheet)
    _corners(draw, caption.corners, sheet_width, (corner_px / 2, top - corner_px / 2), size - 2)
    top += _MARGIN_PX
    for text, font in lines:
        draw.text((_MARGIN_PX, top), text, INK, font)
        top += line_px
    shares = {"water": layers.water, "low confidence": layers.unsure, "radar shadow or layover": layers.hidden}
    _legend(draw, [name for name, share in shares.items() if name == "water" or share.any()], top + line_px // 2, size)
    _scale(draw, sheet_width, top + line_px // 2, caption.pixel_m and caption.pixel_m / factor, size)
    return sheet


def round_length(metres: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer than `metres`."""
    power = 10.0 ** math.floor(math.log10(metres))
    return max(step * power for step in (1, 2, 5) if step * power <= metres)


def _picture(layers: Layers, factor: int) -> UInt8:
    """(h, w, 3) uint8: the scene in grey, a breath of blue on water, its outline, hatching."""

    def enlarged(layer: UInt8) -> UInt8:
        return np.asarray(layer.repeat(factor, axis=0).repeat(factor, axis=1))

    water, measured = enlarged(layers.water), enlarged(layers.seen) >= 128
    colours = np.repeat(enlarged(layers.grey)[..., None], 3, axis=2)
    wet = water > 0
    tint = np.float32(_TINT / 255) * water[wet][:, None]
    colours[wet] = colours[wet] * (1 - tint) + np.array(WATER_LINE, np.float32) * tint
    for layer, colour, slope in ((layers.unsure, UNSURE, 1), (layers.hidden, HIDDEN, -1)):
        colours[_hatching(enlarged(layer) >= 128, slope)] = colour
    colours[_shore(water >= _WET, measured)] = WATER_LINE
    colours[~measured] = PAPER
    return colours


def _hatching(area: Bool, slope: int) -> Bool:
    """Those pixels of `area` that lie on its diagonals."""
    row, column = np.ogrid[: area.shape[0], : area.shape[1]]
    return np.asarray(area & ((column + slope * row) % _HATCH_EVERY_PX < _HATCH_PX))


def _shore(wet: Bool, measured: Bool) -> Bool:
    """A line of two pixels where water meets land, one on either side; none where it meets what was not measured."""
    wet, dry = wet & measured, measured & ~wet
    shore = np.zeros_like(wet)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        meets = (wet[here] & dry[there]) | (dry[here] & wet[there])
        shore[here] |= meets
        shore[there] |= meets
    return shore


def _lettered(text: str, size: int) -> tuple[str, Any]:
    """The text and a font that has all of its letters; where the system has none, what is missing is escaped."""
    fonts = (_named_font(name, size) for name in ("", *_FONTS))
    for font in filter(None, fonts):
        if not any(bytes(font.getmask(letter)) == bytes(font.getmask("\uffff")) for letter in set(text) - {" "}):
            return text, font
    return text.encode("ascii", "backslashreplace").decode(), ImageFont.load_default(size)


def _named_font(name: str, size: int) -> Any:
    """None where the system does not have it; the drawing library's own for ""."""
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


def _wrapped(text: str, size: int, width: int) -> list[tuple[str, Any]]:
    """The lines of `text` with their fonts, broken where they are too long, anywhere if need be; of what takes too many
    lines the middle is left out."""
    found = []
    for line in filter(None, text.split("\n")):
        line, font = _lettered(line, size)
        room = width - 2 * _MARGIN_PX
        most = int(_MOST_LINES * room / max(font.getlength(line) / len(line), 1))
        if len(line) > most:
            line = f"{line[: most // 2 - 4]} ... {line[-(most // 2 - 4) :]}"
        while line:
            length = next(n for n in range(len(line), 0, -1) if n == 1 or font.getlength(line[:n]) <= room)
            space = line.rfind(" ", 0, length) + 1 if length < len(line) else length
            length = space if space > length // 2 else length
            found.append((line[:length].rstrip(), font))
            line = line[length:].lstrip()
    return found


def _corners(draw: Any, corners: Sequence[str], width: int, heights: tuple[float, float], size: int) -> None:
    ends = ((_MARGIN_PX, "lm"), (width - _MARGIN_PX, "rm"))
    places = [(x, y, anchor) for y in heights for x, anchor in ends]
    for text, (x, y, anchor) in zip(corners, places, strict=False):
        draw.text((x, y), text, INK, ImageFont.load_default(size), anchor=anchor)


def _legend(draw: Any, names: Sequence[str], middle: float, size: int) -> None:
    """Swatches drawn as the picture is, from the left."""
    font = ImageFont.load_default(size)
    x, half = _MARGIN_PX, size // 2
    for name in names:
        box = (x, middle - half, x + 2 * size, middle + half)
        draw.rectangle(box, (128, 128, 128), LEGEND[name] if name == "water" else None, 2)
        if name != "water":
            area = np.ones((2 * half + 1, 2 * size + 1), bool)
            hatching = Image.fromarray(np.uint8(255) * _hatching(area, 1 if name == "low confidence" else -1))
            draw.bitmap((box[0], int(box[1])), hatching, LEGEND[name])
        draw.text((x + 2 * size + 8, middle), name, INK, font, anchor="lm")
        x += round(2 * size + 8 + draw.textlength(name, font) + 1.5 * size)


def _scale(draw: Any, width: int, middle: float, pixel_m: float | None, size: int) -> None:
    """Scale bar and north arrow, to the right."""
    font = ImageFont.load_default(size)
    right = width - _MARGIN_PX
    if pixel_m is None:
        draw.text((right, middle), "no georeference: north and scale unknown", INK, font, anchor="rm")
        return
    draw.polygon(
        [(right - 7, middle - 16), (right - 14, middle + 6), (right - 7, middle + 1), (right, middle + 6)], INK
    )
    draw.text((right - 7, middle + 7), "N", INK, ImageFont.load_default(size - 2), anchor="ma")
    length_m = round_length(pixel_m * width / 5)
    right -= 36
    draw.rectangle((right - round(length_m / pixel_m), middle + 4, right, middle + 8), INK)
    label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    draw.text((right - length_m / pixel_m / 2, middle), label, INK, font, anchor="md")
