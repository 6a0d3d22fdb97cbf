"""Backscatter on a map grid in HDF5: rasters with the coordinates of their pixel centres, a projection and, in some, a
mask beside them. NISAR GCOV, OPERA RTC-S1 and CF netCDF-4 are so.

Source: Climate and Forecast conventions 1.8, sections 4 and 5 (coordinates, grid mappings), https://cfconventions.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneUnreadable
from sarwater.request import Window
from sarwater.scenes.band import Band
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.hdf5 import Hdf5File, Plane
from sarwater.scenes.names import sensing_start, time_in
from sarwater.scenes.radiometry import BandFacts, radiometry_of
from sarwater.scenes.raster import osr
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.hdf5_kind import open_plane
from sarwater.scenes.scene import Scene
from sarwater.scenes.units import nodata_of

Bool = npt.NDArray[np.bool_]

_X = ("xCoordinates", "x_coordinates", "x", "lon", "longitude")
_Y = ("yCoordinates", "y_coordinates", "y", "lat", "latitude")
_PROJECTION = ("projection", "spatial_ref", "crs")
_UNEVEN = 0.05
"""Of a pixel, that a coordinate may be off an even grid: they are rounded."""
_CONVENTION = re.compile(r"outputBackscatter(?:Normalization|Expression)Convention")


@dataclass(frozen=True, eq=False)
class MaskLayer:
    """A raster of codes beside the backscatter: where nothing was measured, and what is in radar shadow or layover."""

    band: Band
    not_measured: tuple[int, ...]
    hidden: tuple[int, ...] = ()

    def measured(self, window: Window) -> Bool:
        """(H, W). Raises SceneUnreadable."""
        return ~np.isin(self.band.read(window), self.not_measured)

    def shadow(self, window: Window) -> Bool:
        """(H, W) True in radar shadow or layover. Raises SceneUnreadable."""
        return np.isin(self.band.read(window), self.hidden)


@dataclass(frozen=True, eq=False)
class GridBand(Band):
    """A band whose product has a mask layer."""

    mask: MaskLayer | None = None

    @property
    def detached(self) -> Band:
        return replace(self, dataset=None, calibration=None, mask=None)

    def read_mask(self, window: Window) -> Bool:
        return super().read_mask(window) if self.mask is None else self.mask.measured(window)


@dataclass(frozen=True)
class Codes:
    """Path of a mask layer and what its values mean."""

    path: str
    not_measured: tuple[int, ...]
    hidden: tuple[int, ...] = ()


def open_grid(
    source: Source,
    file: Hdf5File,
    planes: Mapping[str, str | None],
    *,
    format: str,
    said: Mapping[str, str],
    acquired: str | None = None,
    mask: Codes | None = None,
    notes: tuple[str, ...] = (),
) -> Scene:
    """A scene of `planes`, path -> polarisation. `said` is what the file says of its radiometry, by tag.

    Raises SceneUnreadable for planes of several sizes, and without even coordinates or a projection; SceneUnsafe.
    """
    found = {path: file.plane(path) for path in planes}
    first = next(iter(found.values()))
    if any(plane.shape != first.shape for plane in found.values()):
        sizes = ", ".join(f"{plane.path} {plane.shape}" for plane in found.values())
        raise SceneUnreadable(f"{source.name}: its rasters differ in size ({sizes}); send the product again")
    layer = shadow = None
    if mask is not None and file.plane(mask.path).shape == first.shape:
        layer = _layer(source, file, mask)
        shadow = _layer(source, file, mask) if mask.hidden else None
    elif mask is not None:
        notes += (f"{mask.path} differs in size from the backscatter and was not used",)
    bands = tuple(_band(source, file, plane, planes[path], said, layer) for path, plane in found.items())
    fill = file.attributes(first.path).get("_FillValue")
    fill = fill if isinstance(fill, float) else None
    height, width = first.shape[:2]
    return Scene(
        width_px=width,
        height_px=height,
        bands=bands,
        georeference=georeference_of(source, file, first),
        format=format,
        declared_nodata=fill,
        nodata=nodata_of(first.dtype, bands[0].unit) if fill is None else None if np.isnan(fill) else fill,
        masked=layer is not None,
        shadow=shadow,
        acquired=acquired or sensing_start(source.name, {}),
        notes=notes,
        name=source.name,
    )


def _layer(source: Source, file: Hdf5File, codes: Codes) -> MaskLayer:
    band = Band(open_plane(source, file.plane(codes.path)), 1, "mask", scene=source.name)
    return MaskLayer(band, codes.not_measured, codes.hidden)


def _band(
    source: Source,
    file: Hdf5File,
    plane: Plane,
    polarisation: str | None,
    said: Mapping[str, str],
    mask: MaskLayer | None,
) -> Band:
    tags = {name: str(value) for name, value in file.attributes(plane.path).items()}
    name = plane.path.rsplit("/", 1)[-1]
    facts = BandFacts(plane.dtype, tags.get("units", ""), name, tags)
    radiometry = radiometry_of(facts, said, "")
    return GridBand(
        open_plane(source, plane),
        1,
        radiometry.unit,
        polarisation,
        scene=source.name,
        scale=radiometry.scale,
        offset=radiometry.offset,
        stated_by=radiometry.source,
        mask=mask,
    )


def conventions(file: Hdf5File, within: str = "/") -> dict[str, str]:
    """What NASA's products say of their radiometry in datasets below `within`, by name; gamma0, as both are specified,
    where they do not."""
    said = {"outputBackscatterNormalizationConvention": "gamma0"}
    for path in file.datasets:
        name = path.rsplit("/", 1)[-1]
        if path.startswith(within) and _CONVENTION.fullmatch(name):
            value = file.value(path)
            if isinstance(value, str):
                said[name] = value
    return said


def sensing_start_in(file: Hdf5File, within: str = "/") -> str | None:
    """`identification/zeroDopplerStartTime`, as ISO 8601."""
    for path in file.datasets:
        if path.startswith(within) and path.endswith("identification/zeroDopplerStartTime"):
            return time_in(str(file.value(path)))
    return None


def georeference_of(source: Source, file: Hdf5File, plane: Plane) -> Georeference:
    """Raises SceneUnreadable."""
    height, width = plane.shape[:2]
    crs, mapping = _crs_of(source, file, plane)
    x, y = (_axis(file, plane, names) for names in (_X, _Y))
    if x is None and y is None and (transform := _image_to_map(mapping)) is not None:
        return Georeference(crs.ExportToWkt(), transform)
    west, column_spacing = _edge(source, file, plane, x, _X[0], width)
    north, row_spacing = _edge(source, file, plane, y, _Y[0], height)
    return Georeference(crs.ExportToWkt(), (west, column_spacing, 0.0, north, 0.0, row_spacing))


def _axis(file: Hdf5File, plane: Plane, names: Sequence[str]) -> str | None:
    """Path of the coordinates beside a raster."""
    return next((path for path in _beside(file, plane.path, names) if len(file.datasets[path]) == 1), None)


def _edge(
    source: Source, file: Hdf5File, plane: Plane, path: str | None, expected: str, size: int
) -> tuple[float, float]:
    """Outer edge of the first pixel, and spacing, from the centres. Raises SceneUnreadable."""
    values = None if path is None else file.numbers(path)
    if path is None:
        found = f"no {expected}"
    elif values is None or len(values) != size:
        found = f"{path} of {'no numbers' if values is None else f'{len(values)} numbers'}"
    else:
        spacing = (values[-1] - values[0]) / (size - 1) if size > 1 else file.value(f"{path.removesuffix('s')}Spacing")
        even = isinstance(spacing, float) and np.isfinite(spacing) and spacing != 0
        if even and np.all(np.abs(values - values[0] - spacing * np.arange(size)) <= _UNEVEN * abs(spacing)):
            return float(values[0] - spacing / 2), float(spacing)
        found = f"{path}, which is uneven"
    raise SceneUnreadable(
        f"{source.name}: has {found} beside {plane.path}; expected the {size} evenly spaced coordinates of its pixel "
        "centres: send the product again"
    )


def _beside(file: Hdf5File, path: str, names: Sequence[str]) -> Iterator[str]:
    """Paths of datasets called as one of `names`, in the group of `path` and in those above it."""
    group = path
    while group:
        group = group.rpartition("/")[0]
        yield from (found for name in names if (found := f"{group}/{name}") in file.datasets)


def _crs_of(source: Source, file: Hdf5File, plane: Plane) -> tuple[Any, Mapping[str, Any]]:
    """osr.SpatialReference, and the attributes of the grid mapping that says it. Raises SceneUnreadable."""
    named = str(file.attributes(plane.path).get("grid_mapping", "")).partition(":")[0].strip().lstrip("/")
    for path in _beside(file, plane.path, [named, *_PROJECTION]):
        mapping = file.attributes(path)
        if (crs := _crs_said_by(mapping, file.value(path))) is not None:
            return crs, mapping
    axis = _axis(file, plane, _X)
    if axis is not None and str(file.attributes(axis).get("units", "")).startswith("degree"):
        return _epsg(4326), {}
    raise SceneUnreadable(
        f"{source.name}: does not say the projection of {plane.path}; expected a dataset `projection` with an EPSG "
        "code or WKT: send the product again"
    )


def _crs_said_by(mapping: Mapping[str, Any], value: Any) -> Any:
    """Of a grid mapping: the EPSG code or WKT among its attributes, or its value. None where it says neither."""
    for code in (mapping.get("epsg_code"), mapping.get("epsg"), value):
        digits = f"{code:.0f}" if isinstance(code, float) else str(code).upper().removeprefix("EPSG:")
        if digits.isdigit() and (crs := _epsg(int(digits))) is not None:
            return crs
    for text in (mapping.get("crs_wkt"), mapping.get("spatial_ref"), mapping.get("wkt"), value):
        try:
            if isinstance(text, str) and text:
                return osr.SpatialReference(text)
        except RuntimeError:
            continue
    return _epsg(4326) if mapping.get("grid_mapping_name") == "latitude_longitude" else None


def _epsg(code: int) -> Any:
    crs = osr.SpatialReference()
    try:
        crs.ImportFromEPSG(code)
    except (RuntimeError, OverflowError):
        return None  # 0, as netCDF has it where the attributes say it all
    return crs


def _image_to_map(mapping: Mapping[str, Any]) -> tuple[float, ...] | None:
    """SNAP's `i2m`, Java's AffineTransform, as GDAL's six numbers."""
    try:
        x_by_column, y_by_column, x_by_row, y_by_row, x, y = map(float, str(mapping.get("i2m", "")).split(","))
    except ValueError:
        return None
    transform = (x, x_by_column, x_by_row, y, y_by_column, y_by_row)
    return transform if np.isfinite(transform).all() and x_by_column * y_by_row != x_by_row * y_by_column else None
