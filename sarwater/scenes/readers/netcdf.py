"""Backscatter in netCDF-4 files of the Climate and Forecast (CF) conventions, as SNAP and xarray write them.

A variable is backscatter where its name or attributes say a polarisation or a quantity (`Sigma0_VV`, `vv`). SNAP has
one-dimensional lat and lon in geographic grids, and in projected ones a variable `crs` with WKT and `i2m`.
Source: CF conventions 1.8, https://cfconventions.org; SNAP's CfGeocodingPart.
"""

from __future__ import annotations

import re

from sarwater.errors import SceneUnreadable
from sarwater.scenes.hdf5 import Hdf5File
from sarwater.scenes.names import polarisation_in, sensing_start
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.hdf5_grid import open_grid
from sarwater.scenes.readers.hdf5_kind import Hdf5Kind, with_rasters
from sarwater.scenes.scene import Scene

_PLAIN_PATH = re.compile(r"[\w/.-]+")
_BACKSCATTER = re.compile(
    r"(?<![a-z])(?:sigma|gamma|beta)[ _-]?(?:0|nought|naught)|amplitude|intensity|backscatter"
    r"|backwards_scattering_coefficient_of_radar_wave",
    re.IGNORECASE,
)
"""The last is CF's standard name."""
_ABOUT_IT = re.compile(r"nesz|noise[ _]equivalent|factor|incidence", re.IGNORECASE)
_TELLING = ("long_name", "standard_name", "polarization", "polarisation")
_OTHER = re.compile(r"(?:[iq]|phase|coh(?:erence)?)(?:_.*)?|.*(?:angle|mask|flags?)", re.IGNORECASE)


class NetCdf(Hdf5Kind):
    name = "netCDF-4"
    reads = "variables of backscatter; latitude and longitude, or a grid mapping; time"
    unit = "what the variable says"
    unused = "other variables; netCDF-3"
    looks_for = "netCDF-4 with variables of backscatter on a grid (Sigma0_VV)"

    def matches(self, file: Hdf5File) -> bool:
        said = file.attributes("/")
        return "_NCProperties" in said or "CF" in str(said.get("Conventions", ""))

    def open(self, source: Source, file: Hdf5File) -> Scene:
        rasters = [path for path, shape in sorted(file.datasets.items()) if len(shape) == 2 or shape[:-2] == (1,)]
        planes = {path: _polarisation(file, path) for path in rasters if _is_backscatter(file, path)}
        if not planes:
            held, advice = with_rasters(source, file, "NETCDF")
            raise SceneUnreadable(f"{source.name}: netCDF-4 {held}; expected {self.looks_for}: {advice}")
        tags = {name: str(value) for name, value in file.attributes("/").items()}
        if len(planes) == 1:
            planes = {path: found or polarisation_in(source.name) for path, found in planes.items()}
        return open_grid(source, file, planes, format="netCDF-4", said=tags, acquired=sensing_start(source.name, tags))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _said(file: Hdf5File, path: str) -> str:
    """The name, and what the attributes say of what is measured."""
    attributes = file.attributes(path)
    return " ".join([_name(path), *(str(attributes.get(name, "")) for name in _TELLING)])


def _polarisation(file: Hdf5File, path: str) -> str | None:
    return polarisation_in(_name(path)) or polarisation_in(_said(file, path))


def _is_backscatter(file: Hdf5File, path: str) -> bool:
    if not _PLAIN_PATH.fullmatch(path) or _OTHER.fullmatch(_name(path)):
        return False
    said = _said(file, path)
    return bool(_BACKSCATTER.search(said) or polarisation_in(_name(path))) and not _ABOUT_IT.search(said)
