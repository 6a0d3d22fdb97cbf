"""Sentinel-1 products in SAFE folders: per polarisation one GeoTIFF with control points, and its calibration.

GRD of all modes, as SAFE and as COG_SAFE (files are called `*-cog.tiff` there), and SLC of stripmap, whose image is one
piece: complex, read as amplitude. The bursts of IW and EW SLC overlap and lie below each other without their place, and
WV holds many small images: they are refused.

Pixels are read by the folder's fixed layout, never by the references in `manifest.safe`, which could point anywhere;
the manifest only tells which files have to be there.
Source: Sentinel-1 Product Specification (S1-RS-MDA-52-7441) and Radiometric Calibration of S-1 Level-1 Products
(ESA-EOPG-CSCOP-TN-0002).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneError, SceneUnreadable
from sarwater.request import Limits, Window
from sarwater.scenes.border_noise import is_old_processor, may_have_border_noise
from sarwater.scenes.names import time_in
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.geotiff import open_tiff, scene_of
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import read_xml

Float32 = npt.NDArray[np.float32]

_MEASUREMENT = re.compile(r"s1[a-d]-(\w+)-(grd|slc)-(hh|hv|vh|vv)-.*\.tiff?", re.IGNORECASE)
_STRIPMAP = re.compile(r"s[1-6]", re.IGNORECASE)
_WAVE = re.compile(r"wv\d?", re.IGNORECASE)
_MANIFEST = "manifest.safe"
_NEEDED = ("measurement", "annotation")
"""Folders whose files are read or belong to what is read."""


class Sentinel1Safe(Reader):
    name = "Sentinel-1 SAFE folder"
    looks_for = "a folder named *.SAFE, or one that holds manifest.safe"
    images = ("measurement/*.tif", "measurement/*.tiff")
    reads = "GRD: every polarisation, control points, calibration, time"
    unit = "amplitude in DN; sigma0 from the calibration vectors"
    unused = "thermal noise, orbits, previews"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_dir() and (name.lower().endswith(".safe") or (path / _MANIFEST).is_file())

    def missing(self, path: Path) -> list[str]:
        manifest = path / _MANIFEST
        if not manifest.is_file():
            return [_MANIFEST]
        if _in_pieces(_measurements(path)):
            return []  # whatever is still to come: `open` refuses it
        lack = [name for name, size in _listed(manifest).items() if not _is_whole(path / name, size)]
        for folder, pattern in (("measurement", "*.tif*"), ("annotation", "*.xml")):
            if not lack and not named(path / folder, pattern) and not named(path / folder / "calibration", pattern):
                lack.append(f"{folder}/{pattern}")
        return lack

    def open(self, source: Source) -> Scene:
        manifest = read_xml(source.path / _MANIFEST)  # what it lists was looked for, where it could be read
        measurements = _measurements(source.path)
        if not measurements:
            raise SceneUnreadable(
                f"{source.name}: holds no GRD or SLC measurement; expected s1?-*-grd-<polarisation>-*.tiff under "
                "measurement, for no mask can be made of RAW, OCN and ETAD: give the GRD product"
            )
        if why := _in_pieces(measurements):
            raise SceneUnreadable(f"{source.name}: {why}")
        scenes = [scene_of(part, open_tiff(part)) for part in (m.source(source.limits) for m in measurements)]
        first = scenes[0]
        if any((scene.width_px, scene.height_px) != (first.width_px, first.height_px) for scene in scenes):
            raise SceneUnreadable(f"{source.name}: its polarisations differ in size; send the product again")
        first.bands = tuple(
            replace(
                scene.bands[0],
                polarisation=measurement.polarisation,
                calibration=measurement.calibration(source.path, first.width_px),
            )
            for measurement, scene in zip(measurements, scenes, strict=True)
        )
        first.format = f"Sentinel-1 {measurements[0].level}"
        grd = measurements[0].level == "GRD"
        first.border_noise = grd and _has_border_noise(manifest, source.name, first.border_noise)
        first.acquired = time_in(source.name) or first.acquired
        return first


@dataclass(frozen=True)
class _Measurement:
    """A file under measurement/, by its name."""

    file: Path
    swath: str
    """`iw`, `ew`, `s1` to `s6` of GRD; one of several (`iw1`) of SLC."""
    level: str
    """`GRD` or `SLC`."""
    polarisation: str

    @classmethod
    def of(cls, file: Path) -> _Measurement | None:
        found = _MEASUREMENT.fullmatch(file.name)
        return cls(file, found[1].lower(), found[2].upper(), found[3].lower()) if found else None

    def source(self, limits: Limits) -> Source:
        return Source(self.file, self.file.name, limits)

    def calibration(self, product: Path, width_px: int) -> Sigma0 | None:
        """None where the product has none of this measurement."""
        folder = product / "annotation" / "calibration"
        for stem in (self.file.stem, self.file.stem.removesuffix("-cog")):
            if (lookup := folder / f"calibration-{stem}.xml").is_file():
                return _read_calibration(lookup, width_px)
        return None


def _measurements(product: Path) -> list[_Measurement]:
    return [found for file in named(product / "measurement", "*") if (found := _Measurement.of(file))]


def _in_pieces(measurements: list[_Measurement]) -> str:
    """Why they are no image, and what makes one of them; empty where they are."""
    if any(_WAVE.fullmatch(measurement.swath) for measurement in measurements):
        return "wave mode, many small images of open sea; no mask can be made of it: give a GRD product"
    if any(one.level == "SLC" and not _STRIPMAP.fullmatch(one.swath) for one in measurements):
        return (
            "SLC in bursts (TOPS), which lie below each other and overlap; make one image of it with SNAP's "
            "TOPSAR-Deburst and TOPSAR-Merge and write that as GeoTIFF, or give the GRD product of the same pass"
        )
    return ""


def _has_border_noise(manifest: Element, name: str, otherwise: bool) -> bool:
    """By the processor that the manifest names, else as the rasters and the product's name tell."""
    for software in manifest.iter():
        if software.tag.endswith("}software") or software.tag == "software":
            said = is_old_processor(f"{software.get('name', '')} {software.get('version', '')}")
            if said is not None:
                return said
    return otherwise or may_have_border_noise(name, {})


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
