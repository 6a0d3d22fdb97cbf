"""ENVI: pixels as they are in memory, and a text header (.hdr) beside them. One pair, or a folder of pairs that make
one scene, as SNAP, GAMMA and ENVI itself write it.

The header is read here first: what GDAL is then given lies whole in the file, and in no other one.
Source: ENVI Header Files, https://www.nv5geospatialsoftware.com/docs/ENVIHeaderFiles.html. SNAP writes the unit of a
band into its description, `{Sigma0_VV - Unit: intensity}`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sarwater.errors import SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.regular import open_regular
from sarwater.scenes.backscatter import beside_backscatter, no_backscatter
from sarwater.scenes.georeference import Georeference, with_epsg
from sarwater.scenes.hdf5 import is_hdf5
from sarwater.scenes.limits import check_declared
from sarwater.scenes.names import polarisation_in, time_in
from sarwater.scenes.radiometry import BandFacts, radiometry_of
from sarwater.scenes.raster import text_of
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.geotiff import open_raster, scene_of
from sarwater.scenes.readers.polarisations import SAME_SIZE
from sarwater.scenes.scene import Scene
from sarwater.scenes.tiff import is_tiff

_SUFFIXES = (".img", "", ".dat", ".bin", ".raw", ".bsq", ".bil", ".bip", ".envi")
"""Of the pixels, where the header is called NAME.hdr; NAME.img.hdr belongs to NAME.img."""
_BYTES = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 9: 16, 12: 2, 13: 4, 14: 8, 15: 8}
_INTERLEAVES = ("bsq", "bil", "bip")
_FILE_TYPES = ("envi", "envi standard", "envi classification")
_MAX_HEADER_BYTES = 1 << 20
_FIELD = re.compile(r"^[ \t]*([^=\n{}]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)
_UNIT = re.compile(r"- Unit: ([^}]*)")
_IMAGINE = b"EHFA_HEADER_TAG"
_NO_PIXELS = (
    ".hdr",
    ".sta",
    ".xml",
    ".dim",
    ".txt",
    ".json",
    ".log",
    ".md5",
    ".sha256",
    ".png",
    ".jpg",
    ".kml",
    ".enp",
)


class Envi(Reader):
    name = "ENVI raster"
    reads = "BSQ, BIL and BIP of any type and byte order; band names, unit, gain and offset, nodata, map info, time"
    unit = "what band name, description and file name say (`Sigma0_VV`, `Gamma0_VH_db`), else unknown"
    unused = "statistics (.sta); angles, heights and masks in a folder of pairs"
    looks_for = "an ENVI header (.hdr) with its pixels beside it, either of the two, or a folder of such pairs"

    def matches(self, path: Path, name: str) -> bool:
        if path.is_dir():
            return any(map(is_header, named(path, "*.hdr")))
        if path.suffix.lower() == ".hdr":
            return is_header(path)
        if not path.is_file() or is_tiff(path) or is_hdf5(path):
            return False
        return header_of(path) is not None or _is_lone_image(path)

    def missing(self, path: Path) -> list[str]:
        pairs = _pairs_in(path) if path.is_dir() else [Pair.of(path)]
        return [lack for pair in pairs for lack in pair.missing]

    def beside(self, path: Path) -> list[str]:
        if path.is_dir():
            return [f"{path.stem}.dim"] if path.suffix.lower() == ".data" else []
        pair = Pair.of(path)
        return [part.name for part in (pair.header, pair.pixels) if part != path]

    def head(self, path: Path) -> Path:
        if path.is_dir():
            return path.with_suffix(".dim") if path.suffix.lower() == ".data" else path
        return Pair.of(path).header

    def members(self, path: Path) -> list[Path]:
        if path.is_dir():
            return super().members(path)
        pair = Pair.of(path)
        statistics = {part.with_suffix(".sta") for part in (pair.header, pair.pixels)}  # which GDAL reads
        for file in (pair.header, pair.pixels, *statistics):
            if file != path and (file.is_symlink() or (file.exists() and not file.is_file())):
                raise SceneUnsafe(
                    f"{path.name}: {file.name} beside it is a link or a special file; send the file itself"
                )
        return sorted(file for file in (pair.header, pair.pixels) if file.exists())

    def open(self, source: Source) -> Scene:
        if not source.path.is_dir():
            return open_pair(source, Pair.of(source.path))
        pairs = _pairs_in(source.path)
        parts = [Source(pair.header, pair.header.name, source.limits) for pair in pairs]
        return of_one_product(source, [open_pair(part, pair) for part, pair in zip(parts, pairs, strict=True)])


def _pairs_in(folder: Path) -> list[Pair]:
    return [Pair.of(header) for header in named(folder, "*.hdr") if is_header(header)]


def is_header(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(5).rstrip() == b"ENVI"
    except OSError:
        return False


def header_of(pixels: Path) -> Path | None:
    """The header beside a file of pixels, as GDAL looks for it: NAME.hdr, else NAME.img.hdr."""
    beside = (pixels.with_suffix(suffix) for suffix in (".hdr", ".HDR"))
    after = (pixels.with_name(pixels.name + suffix) for suffix in (".hdr", ".HDR"))
    return next((path for path in (*beside, *after) if path != pixels and path.is_file() and is_header(path)), None)


def pixels_of(header: Path) -> Path | None:
    """The pixels beside a header: by one of the usual suffixes, else the only other file of that name."""
    stem = header.with_suffix("")
    usual = (stem.with_name(stem.name + change) for suffix in _SUFFIXES for change in (suffix, suffix.upper()))
    found = next((path for path in usual if path.is_file()), None)
    if found is None:
        others = [path for path in named(header.parent, "*.*") if path.stem == stem.name and path.is_file()]
        others = [path for path in others if path.suffix.lower() not in _NO_PIXELS]
        found = others[0] if len(others) == 1 else None
    return found


@dataclass(frozen=True)
class Pair:
    """Header and pixels, of which one may still be to come."""

    header: Path
    pixels: Path

    @classmethod
    def of(cls, path: Path) -> Pair:
        """`path` is either of the two."""
        if path.suffix.lower() == ".hdr":
            return cls(path, pixels_of(path) or path.with_suffix(".img"))
        return cls(header_of(path) or path.with_suffix(".hdr"), path)

    @property
    def missing(self) -> list[str]:
        """What it lacks: its header, its pixels, or the end of them."""
        if lack := [part.name for part in (self.header, self.pixels) if not part.is_file()]:
            return lack
        try:
            end_bytes = read_layout(self.header).end_bytes
        except (SceneUnreadable, SceneUnsafe):
            return []  # for `open` to say
        size_bytes = self.pixels.stat().st_size
        return [f"{self.pixels.name} ({size_bytes:,} of {end_bytes:,} bytes)"] if size_bytes < end_bytes else []


def _is_lone_image(path: Path) -> bool:
    """Pixels whose header has not arrived; ERDAS Imagine files are called .img, too."""
    if path.suffix.lower() != ".img":
        return False
    with open_regular(path) as file:
        return not file.read(len(_IMAGINE)).startswith(_IMAGINE)


@dataclass(frozen=True)
class Layout:
    """What a header declares."""

    width_px: int
    height_px: int
    bands: int
    offset_bytes: int
    pixel_bytes: int
    fields: Mapping[str, str]
    """By name in lower case."""

    @property
    def end_bytes(self) -> int:
        """Where the last pixel ends."""
        return self.offset_bytes + self.width_px * self.height_px * self.bands * self.pixel_bytes


def read_layout(header: Path) -> Layout:
    """Raises SceneUnreadable, SceneUnsafe."""
    with open_regular(header) as file:
        data = file.read(_MAX_HEADER_BYTES + 1)
    if len(data) > _MAX_HEADER_BYTES:
        raise SceneUnsafe(f"{header.name}: larger than {_MAX_HEADER_BYTES:,} bytes; expected an ENVI header")
    found = _FIELD.findall(data.decode("utf-8", "replace").replace("\r", "\n"))
    fields = {" ".join(name.lower().split()): value.strip() for name, value in found}
    if odd := [name for name, value in fields.items() if "\ufffd" in name + value and name != "description"]:
        raise SceneUnreadable(f"{header.name}: {odd[0][:40]!r} is not in UTF-8; write the header again")
    width, height = (_whole(header, fields, name, 1) for name in ("samples", "lines"))
    bands, offset = _whole(header, fields, "bands", 1, 1), _whole(header, fields, "header offset", 0, 0)
    kind, order = _whole(header, fields, "data type", 1, 1), _whole(header, fields, "byte order", 0, 0)
    interleave, file_type = fields.get("interleave", "bsq").lower(), fields.get("file type", "ENVI Standard").lower()
    if kind not in _BYTES or order > 1 or interleave not in _INTERLEAVES or file_type not in _FILE_TYPES:
        raise SceneUnreadable(
            f"{header.name}: data type {kind}, byte order {order}, interleave {interleave!r}, file type {file_type!r}; "
            f"expected a data type of {', '.join(map(str, _BYTES))}, byte order 0 or 1, {', '.join(_INTERLEAVES)} and "
            "ENVI Standard"
        )
    if fields.get("file compression", "0") != "0":
        raise SceneUnreadable(f"{header.name}: says that the pixels are compressed; write them without compression")
    return Layout(width, height, bands, offset, _BYTES[kind], fields)


def _whole(header: Path, fields: Mapping[str, str], name: str, least: int, default: int | None = None) -> int:
    text = fields.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,18}", text) or int(text) < least:
        raise SceneUnreadable(
            f"{header.name}: {name} = {text or 'nothing'}, expected a whole number from {least}; write the header again"
        )
    return int(text)


def open_dataset(source: Source, pair: Pair) -> tuple[Any, Layout]:
    """The GDAL dataset of a pair. Raises SceneTruncated, SceneUnreadable, SceneUnsafe."""
    layout, size_bytes = read_layout(pair.header), pair.pixels.stat().st_size
    if size_bytes < layout.end_bytes:
        raise SceneTruncated(
            f"{source.name}: {pair.header.name} declares {layout.end_bytes:,} bytes, but {pair.pixels.name} ends at "
            f"{size_bytes:,}; the transfer was cut short: send it again"
        )
    check_declared(
        source.name,
        source.limits,
        pixels=layout.width_px * layout.height_px,
        block_bytes=layout.width_px * layout.bands * layout.pixel_bytes,
        decoded_bytes=size_bytes,
        stored_bytes=size_bytes,
    )
    return open_raster(replace(source, path=pair.pixels), ["ENVI"], beside=(pair.header,)), layout


def open_pair(source: Source, pair: Pair) -> Scene:
    """The scene of one pair. Raises SceneTruncated, SceneUnreadable, SceneUnsafe, SceneIsProduct."""
    dataset, layout = open_dataset(source, pair)
    scene = scene_of(source, dataset)
    scene.format = "ENVI"
    scene.georeference = georeference_of(dataset)
    unit = _UNIT.search(layout.fields.get("description", ""))
    if unit and len(scene.bands) == 1:
        (band,), raster = scene.bands, dataset.GetRasterBand(1)
        said = radiometry_of(replace(BandFacts.of(raster), unit_type=unit[1].strip()), {}, source.name)
        scene.bands = (replace(band, unit=said.unit, scale=said.scale, offset=said.offset, stated_by=said.source),)
    names = (text_of(dataset.GetRasterBand(band.number).GetDescription()) for band in scene.bands)
    backscatter = [band for band, name in zip(scene.bands, names, strict=True) if not beside_backscatter((name,), "")]
    scene.bands = tuple(backscatter) or scene.bands
    if len(scene.bands) == 1 and scene.bands[0].polarisation is None:
        scene.bands = (replace(scene.bands[0], polarisation=polarisation_in(pair.header.stem)),)
    stated = time_in(layout.fields.get("acquisition time", ""))
    scene.acquired = stated or scene.acquired or time_in(pair.header.stem)
    return scene


def georeference_of(dataset: Any) -> Georeference:
    georeference = Georeference.of(dataset)
    try:
        return replace(georeference, crs_wkt=with_epsg(georeference.crs_wkt)) if georeference.crs_wkt else georeference
    except RuntimeError:
        return georeference  # nonsense


def of_one_product(source: Source, scenes: list[Scene]) -> Scene:
    """The pairs of a folder as one scene: its backscatter, without what lies beside it (angles, heights, masks)."""
    kept: list[Scene] = []
    left_out: list[Scene] = []
    for scene in scenes:
        (left_out if no_backscatter(scene) else kept).append(scene)
    if not kept:
        return scenes[0]  # refused with the reason, as any scene of its kind
    first = kept[0]
    if any((scene.width_px, scene.height_px) != (first.width_px, first.height_px) for scene in kept):
        raise SceneUnreadable(f"{source.name}: its rasters differ in size; {SAME_SIZE}")
    first.bands = tuple(replace(band, scene=source.name) for scene in kept for band in scene.bands)
    known = [(band.polarisation, band.unit) for band in first.bands if band.polarisation]
    if len(known) > len(set(known)):
        polarisation, unit = max(known, key=known.count)
        raise SceneUnreadable(
            f"{source.name}: a folder with several rasters of {polarisation} in {unit}; expected one product: give its "
            f"scenes one by one: {shlex.quote(str(source.path))}/*.hdr"
        )
    if left_out:
        first.notes += (f"left out: {', '.join(Path(scene.name).stem for scene in left_out)}",)
    first.acquired = time_in(source.name) or first.acquired
    first.name = source.name
    return first
