"""GDAL, set up so that a hostile file reads nothing but itself. Every other module takes `gdal` from here.

It is imported at its first use: a supervisor, and every `--help`, does without.
Sources: GDAL configuration options (https://gdal.org/user/configoptions.html); the measurements in docs/reliability.md.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from sarwater.dependencies import lazy_import, require

__all__ = [
    "CACHE_BYTES",
    "INSTALL",
    "close_dataset",
    "dtype_of",
    "gdal",
    "gdal_array",
    "h5py",
    "load",
    "ogr",
    "osr",
    "tags_of",
    "text_of",
]

CACHE_BYTES = 96 << 20
"""GDAL's block cache: a few block rows of the widest scene; its default of 5 % of memory is no bound at all."""
_PURPOSE = "reading and writing rasters"
INSTALL = (
    "pip install 'setuptools<81' wheel numpy && CPPFLAGS=-I$(python -c 'import numpy; print(numpy.get_include())') "
    'pip install --no-build-isolation --no-cache-dir "gdal==$(gdal-config --version)"'
)
"""GDAL's Python binding has to be built for the GDAL of the machine, while pip takes the newest, which fits few; and
for the numpy of the environment: Debian's, where it is installed, lies beside Python.h and would be found first."""
_INSTALL = (
    f"`{INSTALL}` beside libgdal-dev, g++ and python3-dev; in a checkout `make setup` does it; docs/install.md has "
    "other ways"
)
_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecars: a VRT named x.tif.ovr would attach to x.tif
    "GDAL_PAM_ENABLED": "NO",  # neither read nor write .aux.xml
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # no network
    "OGR_SQLITE_SYNCHRONOUS": "OFF",  # a GeoPackage is synced once, when it is finished
}
_ready = False


def _prepare() -> None:
    """Once, before the first use of GDAL or HDF5."""
    global _ready
    if _ready:
        return
    _forbid_plugins()
    found, ogr_module, osr_module = (require(f"osgeo.{name}", _PURPOSE, _INSTALL) for name in ("gdal", "ogr", "osr"))
    found.SetErrorHandler("CPLQuietErrorHandler")  # a failure becomes an exception, and one line of ours
    for module in (found, ogr_module, osr_module):
        module.UseExceptions()
    found.SetCacheMax(CACHE_BYTES)
    for option, value in _OPTIONS.items():
        found.SetConfigOption(option, value)
    _ready = True  # only now: without all of this it is never used


def _forbid_plugins() -> None:
    """Read once, when the HDF5 library starts: no filter plugin may be loaded because a file names one."""
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"


gdal = lazy_import("osgeo.gdal", _PURPOSE, _INSTALL, _prepare)
gdal_array = lazy_import("osgeo.gdal_array", _PURPOSE, _INSTALL, _prepare)
ogr = lazy_import("osgeo.ogr", _PURPOSE, _INSTALL, _prepare)
osr = lazy_import("osgeo.osr", _PURPOSE, _INSTALL, _prepare)
h5py = lazy_import("h5py", "checking HDF5 products", prepare=_forbid_plugins)


def load() -> None:
    """Import GDAL and HDF5 and wake PROJ now, for one who is about to fork: each child would do it again."""
    _ = gdal.OF_RASTER, gdal_array.codes, h5py.File
    osr.SpatialReference().ImportFromEPSG(4326)


def text_of(value: str | bytes | None) -> str:
    """What GDAL gives as text, which is bytes where a file does not hold UTF-8."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def dtype_of(band: Any) -> np.dtype[Any]:
    """Of a GDAL band as numpy has it."""
    dtype: np.dtype[Any] = np.dtype(gdal_array.GDALTypeCodeToNumericTypeCode(band.DataType))
    return dtype


def tags_of(item: Any, domain: str = "") -> dict[str, str]:
    """The metadata of a GDAL dataset or band."""
    return {text_of(key): text_of(value) for key, value in (item.GetMetadata(domain) or {}).items()}


def close_dataset(dataset: Any) -> None:
    """Close now, and raise what goes wrong (RuntimeError); the garbage collector would only print it."""
    if dataset is not None:
        # Dataset.Close came with GDAL 3.8; before, the destructor of the binding does the same.
        getattr(dataset, "Close", lambda: dataset.__swig_destroy__(dataset))()
