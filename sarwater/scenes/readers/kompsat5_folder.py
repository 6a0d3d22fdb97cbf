"""KOMPSAT-5 products in a folder: an image (GeoTIFF or HDF5) with `_Aux.xml`, and the incidence-angle mask (GIM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sarwater.errors import SceneUnreadable
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.geotiff import open_tiff, scene_of
from sarwater.scenes.readers.hdf5_product import open_hdf5_product
from sarwater.scenes.readers.kompsat5 import LEVELS, calibration_of, incidence_of, sensing_time
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import read_xml

_NAMES = ("K5_*", "KMPS5_*")
_MAX_XML_BYTES = 16 << 20


class Kompsat5Folder(Reader):
    name = "KOMPSAT-5 folder"
    looks_for = "a folder named K5_* or KMPS5_*, or one that holds files so named, a .h5 or an _Aux.xml"
    reads = "the image (GeoTIFF or HDF5), L1A as two of them; `_Aux.xml`; incidence angles and radar shadow (GIM)"
    unit = "amplitude in DN; sigma0 where `_Aux.xml` says the calibration"
    unused = "quicklooks, checksum lists"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_dir() and bool(_is_named(name) or named(path, *_NAMES, "*.h5", "*_aux.xml"))

    def missing(self, path: Path) -> list[str]:
        if named(path, "*.h5"):
            return []
        lack = [] if _images(path) else ["an image (*.tif or *.h5)"]
        return lack if named(path, "*_aux.xml") else [*lack, "*_Aux.xml"]

    def open(self, source: Source) -> Scene:
        products = named(source.path, "*.h5")
        images = products or _images(source.path)
        quadratures = [file for file in images if not products and "Q" in _words(file)]
        images = [file for file in images if file not in quadratures]
        if len(images) != 1:
            raise SceneUnreadable(
                f"{source.name}: a folder with {len(images)} images; expected one product: a .h5, or a .tif with its "
                "_Aux.xml"
            )
        if products:
            return open_hdf5_product(_part(source, products[0]))
        scene = scene_of(part := _part(source, images[0]), open_tiff(part))
        aux = named(source.path, "*_aux.xml")
        known = _leaves(read_xml(aux[0], _MAX_XML_BYTES)) if aux else {}
        _add_incidence(scene, source, known)
        band = scene.bands[0]
        scene.bands = (
            replace(
                band,
                polarisation=str(known.get("Polarisation", "")).lower() or band.polarisation,
                quadrature=_first_band(_part(source, quadratures[0])) if quadratures else None,
                calibration=calibration_of(known, scene.incidence, scene.width_px),
            ),
        )
        scene.format = f"KOMPSAT-5 {LEVELS.get(str(known.get('ProductType', ''))[:3], 'product')} folder"
        scene.acquired = scene.acquired or sensing_time(known, source.name)
        return scene


def _is_named(name: str) -> bool:
    return any(name.upper().startswith(pattern.rstrip("*")) for pattern in _NAMES)


def _images(folder: Path) -> list[Path]:
    """GeoTIFFs but for incidence-angle masks and quicklooks."""
    return [
        file for file in named(folder, "*.tif", "*.tiff") if "GIM" not in file.stem.upper() and "QL" not in _words(file)
    ]


def _words(file: Path) -> list[str]:
    return file.stem.upper().split("_")


def _part(source: Source, file: Path) -> Source:
    """One file of the product, called as it is there: its name tells time and polarisation."""
    return Source(file, file.name, source.limits)


def _first_band(source: Source) -> Any:
    return scene_of(source, open_tiff(source)).bands[0]


def _add_incidence(scene: Scene, source: Source, known: Mapping[str, Any]) -> None:
    gims = [file for file in named(source.path, "*.tif", "*.tiff") if "GIM" in file.stem.upper()]
    if not gims:
        return
    gim, shadow = (open_tiff(_part(source, gims[0])) for _ in range(2))
    if (gim.RasterXSize, gim.RasterYSize) != (scene.width_px, scene.height_px):
        scene.notes += (f"{gims[0].name} differs in size from the image and was not used",)
        return
    angles = {name.removeprefix("GIM."): value for name, value in known.items() if name.startswith("GIM.")}
    scene.incidence, scene.shadow = incidence_of(gim, angles), incidence_of(shadow, angles)


def _leaves(root: ElementTree.Element) -> dict[str, Any]:
    """The leaves of `_Aux.xml` by tag; those of a GIM element as `GIM.<tag>`."""
    known: dict[str, Any] = {}
    waiting = [(root, "")]
    while waiting:
        element, prefix = waiting.pop()
        if not len(element):
            known.setdefault(prefix + element.tag, _number_or_text((element.text or "").strip()))
        inside = "GIM." if element.tag == "GIM" else prefix
        waiting += [(child, inside) for child in reversed(element)]
    return known


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
