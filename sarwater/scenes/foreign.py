"""Rasters of kinds that are not read here, told by how they begin, and the commands that make of one what is read.

Sources: GDAL's drivers of these formats, https://gdal.org/drivers/raster; CEOS SAR products, whose files begin with a
descriptor record, as JAXA's ALOS-2 format description has it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_HEAD_BYTES = 512
_KINDS = (
    (rb"(?:<\?xml[^>]*>\s*)?<VRTDataset", "a VRT, which names other files"),
    (rb"EHFA_HEADER_TAG", "an ERDAS Imagine file"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (rb"PCIDSK", "a PCIDSK file"),
    (rb"CDF[\x01\x02\x05]", "a netCDF-3 file"),
    (rb'PRODUCT="(?:ASA|SAR)_', "an Envisat or ERS product"),
    (rb"\x00\x00\x00\x01.\xc0\x12\x12", "a file of a CEOS product"),
    (rb"\x89PNG\r\n", "a PNG picture"),
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"DatasetHeader Begin", "an ER Mapper header"),
    (rb"(?i:\s*ncols\s+\d+\s+nrows\s)", "an ESRI grid in text"),
    (rb"<MRF_META>", "an MRF header"),
    (rb"DSBB|DSRB|DSAA", "a Surfer grid"),
)


def foreign_raster(path: Path, name: str) -> str | None:
    """What the file at `path`, called `name`, is, and what to do with it; None for what is not known."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for pattern, kind in _KINDS:
        if re.match(pattern, head, re.DOTALL):
            return f"{kind}, which this version does not read; make a GeoTIFF of it: {geotiff_of(name, path.stem)}"
    return None


def geotiff_of(source: str, stem: str) -> str:
    """The command that does it; `source` is GDAL's name for a raster."""
    return f"gdal_translate {shlex.quote(source)} {shlex.quote(stem + '.tif')}"


def nitf_of(name: str, mark: str, *options: str) -> str:
    """The command that writes the NITF file called `name` anew, `mark` in the new name."""
    made = f"{Path(name).stem}-{mark}.ntf"
    return shlex.join(["gdal_translate", "-of", "NITF", *(word for co in options for word in ("-co", co)), name, made])
