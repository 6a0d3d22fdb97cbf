"""GDAL, set up so that a hostile file reads nothing but itself. Every other module takes `gdal` from here.

Sources: GDAL configuration options (https://gdal.org/user/configoptions.html); the measurements in docs/reliability.md.
"""

from __future__ import annotations

import os
from typing import Any

from sarwater.errors import DependencyMissing

# Read once, when the HDF5 library starts: no filter plugin may be loaded because a file names one.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"

try:
    from osgeo import gdal, gdal_array, ogr, osr
except ImportError as error:
    raise DependencyMissing(
        f"GDAL's Python binding is not usable here ({error}); install it for this machine's libgdal: `make setup`, or "
        'pip install --no-build-isolation "gdal[numpy]==$(gdal-config --version)"'
    ) from error

__all__ = ["CACHE_BYTES", "close_dataset", "gdal", "gdal_array", "ogr", "osr"]

CACHE_BYTES = 96 << 20
"""GDAL's block cache: a few block rows of the widest scene; its default of 5 % of memory is no bound at all."""

gdal.SetErrorHandler("CPLQuietErrorHandler")  # a failure becomes an exception, and one line of ours
for module in (gdal, ogr, osr):
    module.UseExceptions()
gdal.SetCacheMax(CACHE_BYTES)
for option, value in {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecars: a VRT named x.tif.ovr would attach to x.tif
    "GDAL_PAM_ENABLED": "NO",  # neither read nor write .aux.xml
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # no network
    "OGR_SQLITE_SYNCHRONOUS": "OFF",  # a GeoPackage is synced once, when it is finished
}.items():
    gdal.SetConfigOption(option, value)


def close_dataset(dataset: Any) -> None:
    """Close now, and raise what goes wrong (RuntimeError); the garbage collector would only print it."""
    if dataset is not None:
        # Dataset.Close came with GDAL 3.8; before, the destructor of the binding does the same.
        getattr(dataset, "Close", lambda: dataset.__swig_destroy__(dataset))()
