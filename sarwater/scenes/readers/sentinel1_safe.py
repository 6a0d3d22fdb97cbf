"""Sentinel-1 GRD products in SAFE folders: per polarisation one GeoTIFF with control points, and its calibration.

Pixels are read by the folder's fixed layout, never by the references in `manifest.safe`, which could point anywhere;
the manifest only tells which files have to be there.
Source: Sentinel-1 Product Specification (S1-RS-MDA-52-7441) and Radiometric Calibration of S-1 Level-1 Products
(ESA-EOPG-CSCOP-TN-0002).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneError, SceneUnreadable
from sarwater.request import Window
from sarwater.scenes.names import time_in
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.geotiff import open_tiff, scene_of
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import read_xml

Float32 = npt.NDArray[np.float32]

_MEASUREMENT = re.compile(r"s1[a-d]-\w+-grd-(hh|hv|vh|vv)-.*\.tiff?", re.IGNORECASE)
_NEEDED = ("measurement", "annotation")
"""Folders whose files are read or belong to what is read."""


class Sentinel1Safe(Reader):
    name = "Sentinel-1 SAFE folder"
    looks_for = "a folder named *.SAFE, or one that holds manifest.safe"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_dir() and (name.lower().endswith(".safe") or (path / "manifest.safe").is_file())

    def missing(self, path: Path) -> list[str]:
        manifest = path / "manifest.safe"
        if not manifest.is_file():
            return ["manifest.safe"]
        lack = [name for name, size in _listed(manifest).items() if not _is_whole(path / name, size)]
        for folder, pattern in (("measurement", "*.tif*"), ("annotation", "*.xml")):
            if not lack and not named(path / folder, pattern) and not named(path / folder / "calibration", pattern):
                lack.append(f"{folder}/{pattern}")
        return lack

    def open(self, source: Source) -> Scene:
        read_xml(source.path / "manifest.safe")  # what it lists was looked for, where it could be read
        files = [file for file in named(source.path / "measurement", "*") if _MEASUREMENT.fullmatch(file.name)]
        if not files:
            raise SceneUnreadable(
                f"{source.name}: holds no GRD measurement; expected measurement/s1?-*-grd-<polarisation>-*.tiff"
            )
        scenes = [scene_of(part, open_tiff(part)) for part in (Source(f, f.name, source.limits) for f in files)]
        first = scenes[0]
        if any((scene.width_px, scene.height_px) != (first.width_px, first.height_px) for scene in scenes):
            raise SceneUnreadable(f"{source.name}: its polarisations differ in size; send the product again")
        bands = []
        for file, scene in zip(files, scenes, strict=True):
            found = _MEASUREMENT.fullmatch(file.name)
            lookup = source.path / "annotation" / "calibration" / f"calibration-{file.stem}.xml"
            bands.append(
                replace(
                    scene.bands[0],
                    polarisation=found[1].lower() if found else None,
                    calibration=_read_calibration(lookup, first.width_px) if lookup.is_file() else None,
                )
            )
        first.bands = tuple(bands)
        first.format = "Sentinel-1 GRD"
        first.acquired = time_in(source.name) or first.acquired
        return first


def _listed(manifest: Path) -> dict[str, int | None]:
    """The files under measurement/ and annotation/ that the manifest lists, with their sizes; none where it cannot be
    read, which is for `open` to say."""
    try:
        root = read_xml(manifest)
    except SceneError:
        return {}
    files: dict[str, int | None] = {}
    for stream in root.iter("byteStream"):
        location = stream.find("fileLocation")
        path = PurePosixPath((location.get("href") or "").removeprefix("./")) if location is not None else None
        if path and path.parts and path.parts[0] in _NEEDED and ".." not in path.parts:
            size = stream.get("size", "")
            files[str(path)] = int(size) if size.isdigit() else None
    return files


def _is_whole(path: Path, size: int | None) -> bool:
    try:
        return path.is_file() and size in (None, path.stat().st_size)
    except OSError:
        return False


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
    columns = np.arange(width_px)
    gains: dict[float, Float32] = {}
    try:
        for vector in read_xml(path).iter("calibrationVector"):
            line = float(vector.findtext("line", ""))
            pixels, values = (
                np.array(vector.findtext(name, "").split(), np.float64) for name in ("pixel", "sigmaNought")
            )
            gains[line] = np.interp(columns, pixels, values).astype(np.float32)
    except ValueError as error:
        raise SceneUnreadable(f"{path.name}: not a readable calibration ({error}); send the product again") from error
    if len(gains) < 2:
        return None
    lines = np.array(sorted(gains))
    return Sigma0(lines, np.stack([gains[line] for line in lines]))
