"""What RADARSAT-2 and RCM products share: lookup tables of gains, tie points, the start of sensing.

Detected pixels: sigma0 = (DN^2 + B) / A. Complex pixels: sigma0 = (I^2 + Q^2) / A^2. A is the gain of the column, B the
offset of the table. Noise is not subtracted.

Sources: RADARSAT-2 Product Format Definition (RN-RP-51-2713), RCM Image Product Format Definition (RCM-SP-53-0419), and
GDAL's rs2dataset.cpp and rcmdataset.cpp: gains follow the columns of the image; tie points count from the middle of a
pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneError, SceneUnreadable
from sarwater.request import Window
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.scenes.names import time_in
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.polarisations import is_complex
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import read_xml

Float32 = npt.NDArray[np.float32]

_STARTS = ("rawDataStartTime", "zeroDopplerTimeFirstLine")
_SAMPLE_TYPES = ("dataType", "sampleType")
"""Of RADARSAT-2 and of RCM."""
_FIRST_PIXEL = ("pixelFirstLutValue", "pixelFirstAnglesValue")
"""The specification's name, and that of many products."""
_PLACES = (
    *("{*}imageCoordinate/{*}pixel", "{*}imageCoordinate/{*}line", "{*}geodeticCoordinate/{*}longitude"),
    *("{*}geodeticCoordinate/{*}latitude", "{*}geodeticCoordinate/{*}height"),
)
_MAX_LUT_BYTES = 16 << 20


@dataclass(frozen=True)
class Sigma0:
    """sigma0 of amplitudes in DN."""

    gains: Float32
    """(W,): one for each column of the scene."""
    offset: float
    of_complex: bool

    def __call__(self, amplitude: Float32, window: Window) -> Float32:
        """(H, W) float32 amplitude of `window` -> sigma0, linear."""
        gains = self.gains[window.x_px : window.x_px + window.width_px]
        power = np.square(amplitude / gains) if self.of_complex else (np.square(amplitude) + self.offset) / gains
        return np.asarray(power, np.float32)


def read_lookup_table(path: Path, width_px: int, of_complex: bool) -> Sigma0 | None:
    """None for a table without gains. A gain for each column, or one for every few of them (RCM), between which they
    are interpolated. Raises SceneUnreadable, SceneUnsafe."""
    root = read_xml(path, _MAX_LUT_BYTES)
    texts = (root.findtext("{*}gains") or "").split()
    if not texts:
        return None
    gains, offset = _numbers(path, texts), _number(path, root, "offset", 0.0)
    if not (gains > 0).all():
        raise SceneUnreadable(f"{path.name}: holds gains that are not above 0; send the product again")
    if root.find("{*}stepSize") is None:
        if len(gains) != width_px:
            raise SceneUnreadable(
                f"{path.name}: {len(gains):,} gains for {width_px:,} columns, expected one for each; send the product "
                "again"
            )
        return Sigma0(gains.astype(np.float32), offset, of_complex)
    first, step = (_number(path, root, *names) for names in ((*_FIRST_PIXEL, 0.0), ("stepSize", 1.0)))
    stated = _number(path, root, "numberOfValues", float(len(gains)))
    columns = first + step * np.arange(len(gains))
    if stated != len(gains) or step == 0 or columns.min() > abs(step) or columns.max() < width_px - 1 - abs(step):
        raise SceneUnreadable(
            f"{path.name}: {len(gains):,} gains (it says {stated:,.0f}) for columns {columns.min():,.0f} to "
            f"{columns.max():,.0f}, expected them for the image's {width_px:,} columns; send the product again"
        )
    order = np.argsort(columns)
    gains = np.interp(np.arange(width_px), columns[order], gains[order])
    return Sigma0(gains.astype(np.float32), offset, of_complex)


def _number(path: Path, root: ElementTree.Element, *names: str | float) -> float:
    """The first that is there of the elements called so; the last of `names` is its value where none is."""
    *elements, default = names
    text = next((found for name in elements if (found := root.findtext(f"{{*}}{name}"))), str(default))
    return float(_numbers(path, [text])[0])


def _numbers(path: Path, texts: list[str]) -> npt.NDArray[np.float64]:
    try:
        numbers = np.array(texts, np.float64)
    except ValueError as error:
        raise SceneUnreadable(f"{path.name}: not a lookup table ({error}); send the product again") from error
    if not np.isfinite(numbers).all():
        raise SceneUnreadable(f"{path.name}: holds numbers that are not finite; send the product again")
    return numbers


def refuse_packed(source: Source, root: ElementTree.Element, scene: Scene) -> None:
    """Raises SceneUnreadable where `product.xml` says complex pixels, and the images hold other ones."""
    said = (root.findtext(f".//{{*}}rasterAttributes/{{*}}{name}") or "" for name in _SAMPLE_TYPES)
    if "complex" in map(str.lower, said) and not all(map(is_complex, scene.bands)):
        raise SceneUnreadable(
            f"{source.name}: complex pixels packed into whole numbers; expected I and Q as two bands, or complex "
            "numbers: convert it with SNAP"
        )


def start_in(root: ElementTree.Element, name: str) -> str | None:
    """When sensing began, by `product.xml`, else by the product's name."""
    texts = (root.findtext(f".//{{*}}{element}") or "" for element in _STARTS)
    return next(filter(None, map(time_in, texts)), None) or time_in(name)


def tie_points(root: ElementTree.Element) -> Georeference:
    """The geolocation grid of `product.xml` as control points; those that are no numbers are left out."""
    points: list[GroundControlPoint] = []
    for tie in root.findall(".//{*}geolocationGrid/{*}imageTiePoint"):
        texts = [tie.findtext(place) for place in _PLACES]
        try:
            pixel, line, longitude, latitude, height_m = (float(text or "nan") for text in texts)
        except ValueError:
            continue
        if all(map(math.isfinite, (pixel, line, longitude, latitude))):
            height_m = height_m if math.isfinite(height_m) else 0.0
            name = str(len(points) + 1)
            points.append(GroundControlPoint(pixel + 0.5, line + 0.5, longitude, latitude, height_m, name))
    return Georeference.of_points(points)


def read_product(path: Path) -> ElementTree.Element | None:
    """`product.xml`; None where it cannot be read, which is for `open` to say."""
    try:
        return read_xml(path)
    except SceneError:
        return None
