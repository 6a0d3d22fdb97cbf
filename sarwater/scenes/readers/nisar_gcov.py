"""NISAR GCOV: terrain-corrected backscatter (gamma0, power) on a map grid, of the L- and the S-band radar.

/science/LSAR/GCOV/grids/frequencyA/HHHH is the covariance of HH with itself, which is its power; terms such as HHHV are
not backscatter. Beside them lie xCoordinates, yCoordinates, projection, listOfPolarizations and, in newer products,
mask: 0 invalid or partly focused, 1 to 5 the subswath, 255 fill.
Source: NASA SDS Product Specification, Level-2 Geocoded Polarimetric Covariance (JPL D-102274), and its writer,
GcovWriter.py of isce3.
"""

from __future__ import annotations

import re

from sarwater.errors import SceneUnreadable
from sarwater.scenes.hdf5 import Hdf5File
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.hdf5_grid import Codes, conventions, open_grid, sensing_start_in
from sarwater.scenes.readers.hdf5_kind import Hdf5Kind
from sarwater.scenes.scene import Scene

_PRODUCT = re.compile(r"/science/([LS]SAR)/(?!identification$)(\w+)")
_FREQUENCY = re.compile(r"/science/([LS]SAR)/GCOV/grids/(frequency[AB])")
_POWER = re.compile(r"([HVRL][HV])\1")
_NOT_MEASURED = (0, 255)


class NisarGcov(Hdf5Kind):
    name = "NISAR GCOV HDF5"
    reads = "the powers (HHHH, HVHV and so on) of frequency A, or of B where A has none; projection; mask; time"
    unit = "gamma0, linear"
    unused = "cross terms (HHHV), the other frequency, rtcGammaToSigmaFactor"
    looks_for = "NISAR GCOV (/science/LSAR/GCOV/grids/frequencyA/HHHH)"

    def matches(self, file: Hdf5File) -> bool:
        return not file.groups.isdisjoint(("/science/LSAR", "/science/SSAR"))

    def open(self, source: Source, file: Hdf5File) -> Scene:
        grids = sorted(group for group in file.groups if _FREQUENCY.fullmatch(group))
        terms = {grid: _power_terms(file, grid) for grid in grids}
        used = next((grid for grid in grids if terms[grid]), None)
        if used is None:
            raise SceneUnreadable(f"{source.name}: {_found(file, grids)}; expected {self.looks_for}: {_advice(file)}")
        _refuse_missing(source, file, used, terms[used])
        radar = used.split("/")[2]
        mask = f"{used}/mask"
        others = [grid for grid in grids if grid != used and terms[grid]]
        return open_grid(
            source,
            file,
            {f"{used}/{term}": term[:2].lower() for term in terms[used]},
            format=f"NISAR GCOV HDF5, {radar[0]} band",
            said=conventions(file, f"/science/{radar}/"),
            acquired=sensing_start_in(file, f"/science/{radar}/"),
            mask=Codes(mask, _NOT_MEASURED) if mask in file.datasets else None,
            notes=tuple(f"{grid.rsplit('/', 1)[-1]} of {grid.split('/')[2]} is not used" for grid in others),
        )


def _power_terms(file: Hdf5File, grid: str) -> list[str]:
    names = (path.rsplit("/", 1)[-1] for path in file.datasets if path.rsplit("/", 1)[0] == grid)
    return sorted(name for name in names if _POWER.fullmatch(name))


def _refuse_missing(source: Source, file: Hdf5File, grid: str, terms: list[str]) -> None:
    """What listOfPolarizations names has to be there."""
    listed = file.value(f"{grid}/listOfPolarizations")
    named = listed if isinstance(listed, tuple) else (listed,)
    lack = [2 * name for name in named if isinstance(name, str) and 2 * name not in terms]
    if lack:
        raise SceneUnreadable(
            f"{source.name}: {grid} holds {', '.join(terms)} and lacks {', '.join(lack)}, which its "
            "listOfPolarizations names; the product is not whole: send it again"
        )


def _found(file: Hdf5File, grids: list[str]) -> str:
    if grids:
        return f"NISAR GCOV without backscatter in {', '.join(grids)}"
    products = sorted({found[2] for group in file.groups if (found := _PRODUCT.fullmatch(group))})
    return f"NISAR {', '.join(products) or 'file without a product'}"


def _advice(file: Hdf5File) -> str:
    other = not any("/GCOV" in group for group in file.groups)
    return "take the GCOV of the same pass" if other else "send the whole product again"
