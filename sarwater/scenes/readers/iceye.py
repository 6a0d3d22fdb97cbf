"""ICEYE in HDF5: single-look complex as two rasters, `s_i` and `s_q`, or detected as one, `s_amplitude`.

What is known of the scene lies beside them, each as a dataset of its own: calibration_factor (sigma0 = factor * DN^2),
polarization, acquisition_start_utc, coord_first_near and the other corners as (column, row, latitude, longitude), both
counted from 1.
Source: ICEYE product documentation, metadata reference; SNAP's IceyeXConstants and IceyeSLCProductReader.
"""

from __future__ import annotations

import math
from typing import Any

from sarwater.errors import SceneUnreadable
from sarwater.scenes.band import Band
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.scenes.hdf5 import Hdf5File
from sarwater.scenes.names import polarisation_in, sensing_start
from sarwater.scenes.raster import osr
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.hdf5_kind import Hdf5Kind, open_plane
from sarwater.scenes.scene import Scene

_AMPLITUDE = "/s_amplitude"
_PARTS = ("/s_i", "/s_q")
_FACTOR, _START, _POLARISATION = "/calibration_factor", "/acquisition_start_utc", "/polarization"
_CORNERS = {"first_near": (0, 0), "first_far": (1, 0), "last_near": (0, 1), "last_far": (1, 1)}


class Iceye(Hdf5Kind):
    name = "ICEYE HDF5"
    reads = "SLC (`s_i`, `s_q`) or `s_amplitude`; calibration factor; corners; polarisation; time"
    unit = "DN, calibrated to sigma0"
    unused = "orbit, Doppler, incidence angles"
    looks_for = "ICEYE (s_i and s_q, or s_amplitude)"

    def matches(self, file: Hdf5File) -> bool:
        return _AMPLITUDE in file.datasets or any(part in file.datasets for part in _PARTS)

    def open(self, source: Source, file: Hdf5File) -> Scene:
        paths = [_AMPLITUDE] if _AMPLITUDE in file.datasets else list(_PARTS)
        lack = [path.lstrip("/") for path in paths if path not in file.datasets]
        if lack:
            raise SceneUnreadable(f"{source.name}: ICEYE without {' and '.join(lack)}; send the whole product again")
        planes = [file.plane(path) for path in paths]
        if planes[0].shape != planes[-1].shape:
            raise SceneUnreadable(f"{source.name}: its s_i and s_q differ in size; send the product again")
        factor = file.value(_FACTOR)
        calibrated = isinstance(factor, float) and math.isfinite(factor) and factor > 0
        rasters = [Band(open_plane(source, plane), 1, "amplitude_dn", scene=source.name) for plane in planes]
        band = Band(
            rasters[0].dataset,
            1,
            "sigma0_amplitude" if calibrated else "amplitude_dn",
            polarisation_in(str(file.value(_POLARISATION))) or polarisation_in(source.name),
            quadrature=rasters[1] if len(rasters) > 1 else None,
            scene=source.name,
            scale=math.sqrt(factor) if calibrated else 1.0,
            stated_by=f"the dataset {_FACTOR[1:]}" if calibrated else "",
        )
        height, width = planes[0].shape[:2]
        return Scene(
            width_px=width,
            height_px=height,
            bands=(band,),
            georeference=_georeference(file, width, height),
            format="ICEYE SLC HDF5" if band.quadrature else "ICEYE HDF5",
            nodata=0.0,
            acquired=sensing_start(source.name, {_START[1:]: str(file.value(_START))}),
            name=source.name,
        )


def _georeference(file: Hdf5File, width: int, height: int) -> Georeference:
    """By the four corners: at the pixels that they state, else where their names say."""
    corners = {name: file.value(f"/coord_{name}") for name in _CORNERS}
    if not all(_is_corner(corner) for corner in corners.values()):
        return Georeference()
    stated = {name: (corner[0] - 0.5, corner[1] - 0.5) for name, corner in corners.items()}
    middle_px, middle_line = width / 2, height / 2
    are_corners = len({(pixel < middle_px, line < middle_line) for pixel, line in stated.values()}) == len(stated)
    inside = all(-1 <= pixel <= width and -1 <= line <= height for pixel, line in stated.values())
    if not (are_corners and inside):
        stated = {name: (across * width, down * height) for name, (across, down) in _CORNERS.items()}
    gcps = tuple(GroundControlPoint(*stated[name], corner[3], corner[2], 0.0, name) for name, corner in corners.items())
    geographic = osr.SpatialReference()
    geographic.ImportFromEPSG(4326)
    return Georeference(gcps=gcps, gcp_crs_wkt=geographic.ExportToWkt())


def _is_corner(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 4 and all(isinstance(number, float) for number in value)
