"""Files beside an image that say where it lies: world files, GDAL's .aux.xml, RPCs, a .prj.

None is read. A scene is the same wherever its file is copied, and has one hash and one mask; beside a file that was
moved, renamed or claimed, nothing lies. What is left out is noted, with the command that puts it into the file.
Source: GDAL's pages on world files, PAM and RPCs (https://gdal.org/drivers/raster/gtiff.html, https://gdal.org/user/raster_data_model.html).
"""

from __future__ import annotations

import re
from pathlib import Path

_WORLD = ("tfw", "tifw", "tiffw", "wld", "tab")
_SIDECAR = re.compile(
    rf"(?P<image>.+?)(?:(?:\.tiff?)?\.(?:{'|'.join(_WORLD)}|aux\.xml|rpb|prj|points)|_rpc\.txt)",
    re.IGNORECASE | re.DOTALL,
)


def is_sidecar(name: str) -> bool:
    """Is it called as files are that say where an image lies?"""
    return _SIDECAR.fullmatch(name) is not None


def sidecars_of(image: Path) -> list[str]:
    """Names of the files beside `image` that would say where it lies, sorted."""
    stem = image.stem.lower()
    try:
        names = sorted(file.name for file in image.parent.iterdir())
    except OSError:
        return []
    found = ((name, _SIDECAR.fullmatch(name)) for name in names)
    return [name for name, match in found if match and match["image"].lower() == stem]


def left_out(image: Path, name: str) -> str:
    """A note on the sidecars of `image`, which is called `name`; empty where there are none."""
    beside = sidecars_of(image)
    if not beside:
        return ""
    return (
        f"not read, though beside it: {', '.join(beside)}; the file itself says not where it lies: make one that does, "
        f"as gdal_translate {name} placed.tif"
    )
