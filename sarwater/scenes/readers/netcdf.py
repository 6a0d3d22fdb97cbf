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
from sarwater.scenes.readers.hdf5_kind import Hdf5Kind
from sarwater.scenes.scene import Scene

_PLAIN_PATH = re.compile(r"[\w/.-]+")
_BACKSCATTER = re.compile(r"(?<![a-z])(?:sigma|gamma|beta)_?(?:0|nought|naught)|amplitude|intensity", re.IGNORECASE)
_OTHER = re.compile(r"(?:[iq]|phase|coh(?:erence)?)(?:_.*)?|.*(?:angle|mask|flags?)", re.IGNORECASE)


class NetCdf(Hdf5Kind):
    looks_for = "netCDF-4 with variables of backscatter on a grid (Sigma0_VV)"

    def matches(self, file: Hdf5File) -> bool:
        said = file.attributes("/")
        return "_NCProperties" in said or "CF" in str(said.get("Conventions", ""))

    def open(self, source: Source, file: Hdf5File) -> Scene:
        rasters = [path for path, shape in sorted(file.datasets.items()) if len(shape) == 2 or shape[:-2] == (1,)]
        planes = {path: polarisation_in(_name(path)) for path in rasters if _is_backscatter(path)}
        if not planes:
            names = ", ".join(map(_name, rasters[:8])) or "none"
            raise SceneUnreadable(f"{source.name}: netCDF-4 with the rasters {names}; expected {self.looks_for}")
        tags = {name: str(value) for name, value in file.attributes("/").items()}
        if len(planes) == 1:
            planes = {path: found or polarisation_in(source.name) for path, found in planes.items()}
        return open_grid(source, file, planes, format="netCDF-4", said=tags, acquired=sensing_start(source.name, tags))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _is_backscatter(path: str) -> bool:
    name = _name(path)
    told = _BACKSCATTER.search(name) or polarisation_in(name)
    return bool(_PLAIN_PATH.fullmatch(path) and told and not _OTHER.fullmatch(name))
