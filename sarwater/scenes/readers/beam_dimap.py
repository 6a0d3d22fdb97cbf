"""BEAM-DIMAP, as SNAP saves it: `NAME.dim`, which says what the bands are, and `NAME.data` with an ENVI pair for each.

The path is the .dim, its .data, or a folder that holds both. Bands are read from NAME.data by the bare names that the
.dim gives, whatever folder it says. Left out are bands that are no backscatter (angles, heights, masks, phases), and
those that SNAP computes from others when it shows them, which are stored nowhere. See sarwater/scenes/dimap.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sarwater.errors import SceneError, SceneIncomplete, SceneUnreadable, SceneUnsafe, UsageError
from sarwater.regular import open_regular
from sarwater.scenes.band import Band
from sarwater.scenes.dimap import Dimap, DimapBand
from sarwater.scenes.georeference import Georeference, GroundControlPoint, with_epsg
from sarwater.scenes.names import time_in
from sarwater.scenes.readers.base import Reader, Source, files_of, named
from sarwater.scenes.readers.envi import Pair, georeference_of, open_dataset
from sarwater.scenes.readers.polarisations import SAME_SIZE
from sarwater.scenes.readers.snap import snap_bands, snap_border_noise, snap_nodata
from sarwater.scenes.scene import Scene

_DATA, _HEADER = ".data", ".dim"
_GRIDS = "tie_point_grids"
_HEAD_BYTES = 4096
_MAX_TIE_POINTS = 1000


class BeamDimap(Reader):
    name = "BEAM-DIMAP product"
    reads = "bands of sigma0, gamma0, beta0, intensity, amplitude, i and q; scaling, nodata, CRS or tie points, time"
    unit = "what the .dim and the band's name say (`Sigma0_VV`, `Gamma0_VH_db`, `Amplitude_HH`)"
    unused = "angles, heights, masks, phases, and bands that SNAP computes from others"
    looks_for = "a .dim with its .data folder beside it, or a folder that holds both"

    def matches(self, path: Path, name: str) -> bool:
        return _header_of(path) is not None

    def missing(self, path: Path) -> list[str]:
        header = _known_header(path)
        data = header.with_suffix(_DATA)
        if lack := [file.name for file in (header, data) if not file.exists()]:
            return lack
        try:
            document = Dimap.read(header)
        except SceneError:
            return []  # for `open` to say
        grids = [f"{_GRIDS}/{name}" for name in document.grid_headers]
        pairs = [Pair.of(data / name) for name in (*document.headers.values(), *grids)]
        return [f"{data.name}/{name}" for pair in pairs for name in pair.missing]

    def beside(self, path: Path) -> list[str]:
        header = _known_header(path)
        parts = (header, header.with_suffix(_DATA))
        return [] if header.parent == path else [part.name for part in parts if part != path]

    def head(self, path: Path) -> Path:
        header = _known_header(path)
        return path if header.parent == path else header

    def members(self, path: Path) -> list[Path]:
        header = _known_header(path)
        data = header.with_suffix(_DATA)
        if header.parent == path:
            return super().members(path)
        for part in (header, data):
            if part != path and part.is_symlink():
                raise SceneUnsafe(f"{path.name}: {part.name} beside it is a link; send the product itself")
        return sorted([*(files_of(data) if data.is_dir() else []), header])

    def open(self, source: Source) -> Scene:
        headers = named(source.path, f"*{_HEADER}") if source.path.is_dir() else []
        if len(headers) > 1:
            raise SceneUnreadable(
                f"{source.name}: a folder of {len(headers)} products; give them one by one, {source.path.name}/*.dim"
            )
        header = _known_header(source.path)
        return _Product(source, header.with_suffix(_DATA), Dimap.read(header)).scene()


def _header_of(path: Path) -> Path | None:
    """The .dim of the product that `path` stands for, there or still to come; None where it stands for none."""
    if path.is_file():
        return path if path.suffix.lower() == _HEADER and _is_dimap(path) else None
    if path.suffix.lower() == _DATA:
        header = path.with_suffix(_HEADER)
        return header if header.is_file() else None
    headers = [header for header in named(path, f"*{_HEADER}") if _is_dimap(header)]
    to_come = [folder.with_suffix(_HEADER) for folder in named(path, f"*{_DATA}") if folder.is_dir()]
    return next(iter([*headers, *to_come]), None)


def _known_header(path: Path) -> Path:
    header = _header_of(path)
    if header is None:
        raise SceneIncomplete(f"{path.name}: changed meanwhile; send all of the product")
    return header


def _is_dimap(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return b"<Dimap_Document" in file.read(_HEAD_BYTES)
    except OSError:
        return False


@dataclass(frozen=True)
class _Product:
    source: Source
    data: Path
    document: Dimap

    def scene(self) -> Scene:
        """Raises SceneUnreadable where no band of backscatter is stored, SceneIncomplete."""
        told = self.document.bands or [DimapBand(header.stem, header.name) for header in named(self.data, "*.hdr")]
        of_use = [one for one in told if one.is_backscatter]
        computed = ", ".join(one.name for one in of_use if not one.header)
        stored = [one for one in of_use if one.header]
        bands = snap_bands(
            self.document, stored, self.source.name, lambda one: (self._dataset(self.data / one.header), 1)
        )
        if not bands:
            why = f"SNAP computes {computed} from others, and has not stored it" if computed else "no band is stored"
            raise SceneUnreadable(
                f"{self.source.name}: holds no backscatter ({why}); expected bands such as Sigma0_VV: in SNAP, choose "
                "Convert Band, and save the product again"
            )
        told_first, first = next(iter(bands.items()))
        width_px, height_px = first.dataset.RasterXSize, first.dataset.RasterYSize
        if any(
            (band.dataset.RasterXSize, band.dataset.RasterYSize) != (width_px, height_px) for band in bands.values()
        ):
            raise SceneUnreadable(f"{self.source.name}: its bands differ in size; {SAME_SIZE}")
        return Scene(
            width_px=width_px,
            height_px=height_px,
            bands=tuple(bands.values()),
            georeference=self._georeference(first),
            format="BEAM-DIMAP",
            declared_nodata=told_first.nodata,
            nodata=snap_nodata(told_first, first),
            border_noise=snap_border_noise(self.document),
            acquired=self.document.start or time_in(self.source.name) or time_in(self.data.name),
            notes=(f"left out, as SNAP computes it from others: {computed}",) if computed else (),
            name=self.source.name,
        )

    def _dataset(self, header: Path) -> Any:
        pair = Pair.of(header)
        if lack := pair.missing:
            raise SceneIncomplete(f"{self.source.name}: without {self.data.name}/{lack[0]}; send all of the product")
        return open_dataset(replace(self.source, path=header), pair)[0]

    def _georeference(self, band: Band) -> Georeference:
        """What the .dim says, else the header of the first band, else the tie points."""
        if self.document.transform and self.document.crs_wkt:
            try:
                return Georeference.of_affine(self.document.transform, with_epsg(self.document.crs_wkt))
            except (UsageError, RuntimeError):
                pass  # nonsense
        header = georeference_of(band.dataset)
        return header if header.known else self._tie_points()

    def _tie_points(self) -> Georeference:
        """Latitude and longitude every few pixels."""
        headers = [self.data / _GRIDS / f"{name}.hdr" for name in ("latitude", "longitude")]
        spacing = self.document.grid_spacing
        if spacing is None or any(Pair.of(header).missing for header in headers):
            return Georeference()
        latitude, longitude = (self._dataset(header).ReadAsArray() for header in headers)
        if latitude.ndim != 2 or latitude.shape != longitude.shape:
            return Georeference()
        left, across, top, down = spacing
        every = max(1, math.ceil(math.sqrt(latitude.size / _MAX_TIE_POINTS)))
        points = [
            GroundControlPoint(
                left + column * across,
                top + row * down,
                float(longitude[row, column]),
                float(latitude[row, column]),
                0.0,
                f"{row}-{column}",
            )
            for row in range(0, latitude.shape[0], every)
            for column in range(0, latitude.shape[1], every)
        ]
        return Georeference.of_points(points)
