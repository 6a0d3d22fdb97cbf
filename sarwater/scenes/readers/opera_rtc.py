"""OPERA RTC-S1 in HDF5: Sentinel-1 bursts as terrain-corrected backscatter (gamma0, power) on a UTM or polar grid.

/data/VV, and in products of before 2023 /science/SENTINEL1/RTC/grids/frequencyA/VV, with xCoordinates, yCoordinates,
projection and a mask beside them: 0 neither layover nor shadow, 1 shadow, 2 layover, 3 both, 255 nothing measured.
Source: Product Specification Document for the OPERA Radiometric Terrain-Corrected SAR Backscatter from Sentinel-1
(JPL D-108758), and its writer, h5_prep.py of opera-adt/RTC.
"""

from __future__ import annotations

import re

from sarwater.errors import SceneUnreadable
from sarwater.scenes.hdf5 import Hdf5File
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.hdf5_grid import Codes, conventions, open_grid, sensing_start_in
from sarwater.scenes.readers.hdf5_kind import Hdf5Kind
from sarwater.scenes.scene import Scene

_GRID = re.compile(r"/data|/science/\w+/RTC/grids/frequency[AB]")
_POLARISATIONS = ("HH", "HV", "VH", "VV")
_MASKS = ("mask", "layoverShadowMask")
_NOT_MEASURED, _HIDDEN = (255,), (1, 2, 3)


class OperaRtc(Hdf5Kind):
    name = "OPERA RTC-S1 HDF5"
    reads = "every polarisation; projection; mask of layover and shadow; time"
    unit = "gamma0, linear"
    unused = "incidence angles, number of looks"
    looks_for = "OPERA RTC-S1 (/data/VV)"

    def matches(self, file: Hdf5File) -> bool:
        grids = any("/RTC/" in group and _GRID.fullmatch(group) for group in file.groups)
        bands = any(f"/data/{name}" in file.datasets for name in _POLARISATIONS)
        return grids or bands or _product_type(file) is not None or file.attributes("/").get("project") == "OPERA"

    def open(self, source: Source, file: Hdf5File) -> Scene:
        grids = sorted(group for group in file.groups if _GRID.fullmatch(group))
        bands = {grid: [name for name in _POLARISATIONS if f"{grid}/{name}" in file.datasets] for grid in grids}
        used = next((grid for grid in grids if bands[grid]), None)
        product = _product_type(file) or "RTC-S1"
        if used is None or "RTC" not in product.upper():
            raise SceneUnreadable(
                f"{source.name}: OPERA {product} {f'in {used}' if used else 'without backscatter'}; expected "
                f"{self.looks_for}; where the backscatter lies beside it in GeoTIFFs, give one of those"
            )
        masks = [path for name in _MASKS if (path := f"{used}/{name}") in file.datasets]
        return open_grid(
            source,
            file,
            {f"{used}/{name}": name.lower() for name in bands[used]},
            format="OPERA RTC-S1 HDF5",
            said=conventions(file),
            acquired=sensing_start_in(file),
            mask=Codes(masks[0], _NOT_MEASURED, _HIDDEN) if masks else None,
            notes=tuple(f"{grid} is not used" for grid in grids if grid != used and bands[grid]),
        )


def _product_type(file: Hdf5File) -> str | None:
    for path in file.datasets:
        if path.endswith("identification/productType"):
            return str(file.value(path))
    return None
