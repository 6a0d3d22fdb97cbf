"""Files beside an image that say where it lies: world files, GDAL's .aux.xml, RPCs, a .prj; and what of it was
measured: GDAL's .msk.

None is read. A scene is the same wherever its file is copied, and has one hash and one mask; beside a file that was
moved, renamed or claimed, nothing lies. What is left out is noted, with the command that puts it into the file; without
its mask an image is refused.
Source: GDAL's pages on world files, PAM and RPCs (https://gdal.org/drivers/raster/gtiff.html, https://gdal.org/user/raster_data_model.html).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from sarwater.errors import SceneIncomplete
from sarwater.shown import shown

_WORLD = ("tfw", "tifw", "tiffw", "wld", "tab")
_SIDECAR = re.compile(
    rf"(?P<image>.+?)(?:(?:\.tiff?)?\.(?:{'|'.join(_WORLD)}|aux\.xml|rpb|prj|points|msk)|_rpc\.txt)",
    re.IGNORECASE | re.DOTALL,
)


def image_of(name: str) -> str | None:
    """Of a file that is called as those are that say where an image lies: the image's name without its suffix, in lower
    case; None for another name."""
    found = _SIDECAR.fullmatch(name)
    return found["image"].lower() if found else None


def sidecars_of(image: Path) -> list[str]:
    """Names of the files beside `image` that would say where it lies, sorted."""
    try:
        names = sorted(file.name for file in image.parent.iterdir())
    except OSError:
        return []
    return [name for name in names if image_of(name) == image.stem.lower()]


def left_out(beside: Sequence[str], name: str) -> str:
    """The note on a scene called `name` whose file says not where it lies, and what of that kind lies beside it."""
    return shown(
        f"not read, though beside it: {', '.join(beside)}; the file itself says not where it lies: make one that does, "
        f"as gdal_translate {name} placed.tif"
    )


def is_mask(name: str) -> bool:
    """Whether a file is called as GDAL calls the mask of an image: `NAME.tif.msk`."""
    return name.lower().endswith(".msk") and image_of(name) is not None


def is_overview(name: str) -> bool:
    """Whether a file is called as GDAL calls the overviews of an image: `NAME.tif.ovr`."""
    return name.lower().endswith(".ovr")


def masks_of(image: Path) -> list[str]:
    """The name of the mask beside `image`, where there is one; the folder, which may be long, is not listed."""
    masks = (image.with_name(image.name + suffix) for suffix in (".msk", ".MSK"))
    return [mask.name for mask in masks if mask.is_file()]


def refuse_without_mask(beside: Sequence[str], name: str) -> None:
    """Raises SceneIncomplete where the mask of the image called `name` is one of the files `beside` it: what that rules
    out would be land or water."""
    if masks := [file for file in beside if is_mask(file)]:
        masked = f"{Path(name).stem}-masked.tif"
        command = shlex.join(
            ["gdal_translate", "--config", "GDAL_TIFF_INTERNAL_MASK", "YES", "-mask", "auto", name, masked]
        )
        raise SceneIncomplete(
            f"{name}: what of it was measured lies beside it, in {masks[0]}, which is not read; put it into the file: "
            f"{command}"
        )
