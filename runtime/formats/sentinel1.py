"""Sentinel-1 GRD products in SAFE folders: per polarisation one GeoTIFF with control points, and its calibration.

The folder is read by its fixed layout, never by the references in `manifest.safe`, which could point anywhere.
Source: Sentinel-1 Product Specification (S1-RS-MDA-52-7441) and Radiometric Calibration of S-1 Level-1 Products
(ESA-EOPG-CSCOP-TN-0002).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from runtime.formats.geotiff import open_geotiff, time_in
from runtime.formats.product import Product
from runtime.job import SceneLimits, Window
from sarwater.errors import SceneUnreadable, SceneUnsafe

Float32 = npt.NDArray[np.float32]

_MEASUREMENT = re.compile(r"s1[a-d]-\w+-grd-(hh|hv|vh|vv)-.*\.tiff?", re.IGNORECASE)
_MAX_XML_BYTES = 64 << 20


def is_safe(path: Path) -> bool:
    return (path / "manifest.safe").is_file()


def open_safe(path: Path, limits: SceneLimits) -> Product:
    """Raises SceneUnreadable (no GRD measurement), SceneUnsafe (links), and what a GeoTIFF can raise."""
    measurements = sorted(file for file in (path / "measurement").glob("*") if _MEASUREMENT.fullmatch(file.name))
    if not measurements:
        raise SceneUnreadable(
            f"{path.name}: holds no GRD measurement; expected measurement/s1?-*-grd-<polarisation>-*.tiff"
        )
    products = []
    for file in measurements:
        if file.is_symlink() or not file.is_file():
            raise SceneUnsafe(
                f"{path.name}/measurement/{file.name}: not a regular file; expected a self-contained product"
            )
        products.append(open_geotiff(file, limits))
    first = products[0]
    if any((product.width_px, product.height_px) != (first.width_px, first.height_px) for product in products):
        raise SceneUnreadable(f"{path.name}: its polarisations differ in size; send the product again")
    layers = []
    for file, product in zip(measurements, products, strict=True):
        found = _MEASUREMENT.fullmatch(file.name)
        lookup = path / "annotation" / "calibration" / f"calibration-{file.stem}.xml"
        layers.append(
            replace(
                product.layers[0],
                polarisation=found[1].lower() if found else None,
                calibration=_read_calibration(lookup, first.width_px) if lookup.is_file() else None,
            )
        )
    first.layers = tuple(layers)
    first.format = "Sentinel-1 GRD"
    first.acquired = time_in(path.name) or first.acquired
    return first


@dataclass(frozen=True)
class Sigma0:
    """sigma0 = DN^2 / A^2, with A interpolated linearly between the lines and pixels of the calibration vectors."""

    lines: npt.NDArray[np.float64]
    """(L,) increasing."""
    gains: Float32
    """(L, W): A of each vector at every column of the scene."""

    def __call__(self, amplitude: Float32, window: Window) -> Float32:
        """(H, W) float32 amplitude of `window` -> sigma0, linear."""
        columns = slice(window.x_px, window.x_px + window.width_px)
        rows = np.arange(window.y_px, window.y_px + window.height_px)
        after = np.clip(np.searchsorted(self.lines, rows, side="right"), 1, len(self.lines) - 1)
        before = after - 1
        position = (rows - self.lines[before]) / (self.lines[after] - self.lines[before])
        share: Float32 = np.clip(position, 0, 1).astype(np.float32)[:, None]
        gain = self.gains[before, columns] * (1 - share) + self.gains[after, columns] * share
        sigma0: Float32 = np.square(amplitude / gain)
        return sigma0


def _read_calibration(path: Path, width_px: int) -> Sigma0 | None:
    """None where the vectors make no grid. Raises SceneUnreadable, SceneUnsafe."""
    text = path.read_bytes()[: _MAX_XML_BYTES + 1]
    if len(text) > _MAX_XML_BYTES or b"<!" in text.replace(b"<!--", b""):
        raise SceneUnsafe(
            f"{path.name}: is larger than {_MAX_XML_BYTES:,} bytes or defines entities; expected plain XML"
        )
    columns = np.arange(width_px)
    gains: dict[float, Float32] = {}
    try:
        for vector in ElementTree.fromstring(text).iter("calibrationVector"):
            line = float(vector.findtext("line", ""))
            pixels, values = (
                np.array(vector.findtext(name, "").split(), np.float64) for name in ("pixel", "sigmaNought")
            )
            gains[line] = np.interp(columns, pixels, values).astype(np.float32)
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneUnreadable(f"{path.name}: not a readable calibration ({error}); send the product again") from error
    if len(gains) < 2:
        return None
    lines = np.array(sorted(gains))
    return Sigma0(lines, np.stack([gains[line] for line in lines]))
