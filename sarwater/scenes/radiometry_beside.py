"""What files beside a GeoTIFF say of its pixels, where the GeoTIFF says nothing: GDAL's .aux.xml, a STAC item or other
JSON of its name.

It is not applied: the pixels would be another thing wherever the file is copied alone (sidecars.py). It is told, as the
options that say the same.
Sources: GDAL's PAM (https://gdal.org/drivers/raster/gtiff.html); STAC's raster extension, `raster:bands` with `unit`,
`scale` and `offset`, in STAC 1.1 `bands` with `raster:scale` and `raster:offset`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sarwater.errors import SceneError
from sarwater.regular import open_regular
from sarwater.scenes.band import Band
from sarwater.scenes.names import plain
from sarwater.scenes.radiometry import BandFacts, Radiometry, radiometry_of
from sarwater.scenes.units import CALIBRATED_UNITS, UNKNOWN_UNIT
from sarwater.scenes.xml import read_xml

_LONGEST = 1 << 20
_JSON = (".json", ".stac.json", "_stac.json", "_item.json")


def radiometry_beside(image: Path, band: Band, name: str) -> str:
    """What lies beside `image` and says of its `band` what that leaves open, and the options that say it; empty where
    nothing does. `name` is what the image is called."""
    if not band.silent:
        return ""
    for file, facts in _said(image, band):
        said = radiometry_of(facts, {}, "")
        if said.unit in CALIBRATED_UNITS or (said.scale, said.offset) != (1.0, 0.0):
            return f"{file} beside {name} says what its values are, and is not read; state it: {_options(said)}"
    return ""


def _options(said: Radiometry) -> str:
    unit = "amplitude_dn" if said.unit == UNKNOWN_UNIT else said.unit
    scale = f" --scale {said.scale:.9g}" if said.scale != 1 or said.offset else ""
    return f"--unit {unit}{scale}" + (f" --offset {said.offset:.9g}" if said.offset else "")


def _said(image: Path, band: Band) -> Iterator[tuple[str, BandFacts]]:
    """Names of files, and what they say of the band."""
    persistent = image.with_name(image.name + ".aux.xml")
    if persistent.is_file() and (facts := _in_xml(persistent, band)):
        yield persistent.name, facts
    for ending in _JSON:
        for beside in dict.fromkeys((image.with_name(image.stem + ending), image.with_name(image.name + ending))):
            if beside.is_file() and (facts := _in_json(beside, image.name, band)):
                yield beside.name, facts


def _in_xml(path: Path, band: Band) -> BandFacts | None:
    try:
        root = read_xml(path, _LONGEST)
    except SceneError:
        return None
    for element in root.iter("PAMRasterBand"):
        if element.get("band") == str(band.number):
            tags = {item.get("key", ""): item.text or "" for item in element.iter("MDI")}
            tags |= {key: element.findtext(key.title(), "") for key in ("scale", "offset")}
            return _facts(tags, element.findtext("UnitType", ""), element.findtext("Description", ""), band)
    return None


def _in_json(path: Path, image: str, band: Band) -> BandFacts | None:
    try:
        with open_regular(path) as file:
            document = json.loads(file.read(_LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    about = _asset(document, image)
    bands = next((bands for key in ("raster:bands", "bands") if isinstance(bands := about.get(key), list)), [])
    mine = bands[band.number - 1] if len(bands) >= band.number else {}
    leaves = {**_leaves(about), **(_leaves(mine) if isinstance(mine, dict) else {})}
    return _facts(leaves, leaves.get("unit") or leaves.get("units", ""), leaves.get("name", ""), band)


def _asset(document: Mapping[str, Any], image: str) -> Mapping[str, Any]:
    """What a STAC item says of the image; the whole of another document."""
    assets = document.get("assets")
    if not isinstance(assets, dict):
        return document
    known = [asset for asset in assets.values() if isinstance(asset, dict)]
    named = [asset for asset in known if PurePosixPath(str(asset.get("href", ""))).name == image]
    return (named or known or [{}])[0]


def _leaves(about: Mapping[str, Any]) -> dict[str, str]:
    return {
        plain(key.rsplit(":", 1)[-1]): str(value)
        for key, value in about.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }


def _facts(tags: Mapping[str, str], unit: str, description: str, band: Band) -> BandFacts:
    return BandFacts(band.stored_dtype, unit, description, dict(tags))
