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
from sarwater.scenes.readers.kompsat5_files import NAMES, ProductFiles
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import read_xml

_MAX_XML_BYTES = 16 << 20


class Kompsat5Folder(Reader):
    name = "KOMPSAT-5 folder"
    looks_for = "a folder named K5_* or KMPS5_*, or one that holds files so named, a .h5 or an _Aux.xml"
    reads = "the image (GeoTIFF or HDF5), L1A as two of them; `_Aux.xml`; incidence angles and radar shadow (GIM)"
    unit = "amplitude in DN; sigma0 where `_Aux.xml` says the calibration"
    unused = "quicklooks, checksum lists"

    def matches(self, path: Path, name: str) -> bool:
        if not path.is_dir():
            return False
        return _is_named(name) or any(not part.is_dir() for part in named(path, *NAMES, "*.h5", "*_aux.xml"))

    def missing(self, path: Path) -> list[str]:
        if named(path, "*.h5"):
            return []
        found = _files_in(path)
        if found.in_hdf5:
            return []
        lack = [] if found.images or found.quadratures else ["an image (*.tif or *.h5)"]
        return lack if found.auxiliary else [*lack, "*_Aux.xml"]

    def members(self, path: Path) -> list[Path]:
        super().members(path)  # refuses links and the like, whatever they are called
        return _files_in(path).all

    def open(self, source: Source) -> Scene:
        files = _files_in(source.path)
        if len(files.images) != 1:
            raise SceneUnreadable(
                f"{source.name}: a folder with {len(files.images)} images; expected one product: a .h5, or a .tif with "
                "its _Aux.xml; of several, name the images"
            )
        if files.in_hdf5:
            return open_hdf5_product(_part(source, files.images[0]))
        return open_product(source, files)


def open_product(source: Source, files: ProductFiles) -> Scene:
    """The image of a product of GeoTIFFs, with what the other files say of it. Raises as `Reader.open`."""
    scene = scene_of(part := _part(source, files.images[0]), open_tiff(part))
    known = _leaves(read_xml(files.auxiliary[0], _MAX_XML_BYTES))
    _add_incidence(scene, source, files, known)
    band = scene.bands[0]
    scene.bands = (
        replace(
            band,
            polarisation=str(known.get("Polarisation", "")).lower() or band.polarisation,
            quadrature=_first_band(_part(source, files.quadratures[0])) if files.quadratures else None,
            calibration=calibration_of(known, scene.incidence, scene.width_px),
        ),
    )
    scene.format = f"KOMPSAT-5 {LEVELS.get(str(known.get('ProductType', ''))[:3], 'product')}"
    scene.acquired = scene.acquired or sensing_time(known, source.name)
    return scene


def _is_named(name: str) -> bool:
    return any(name.upper().startswith(pattern.rstrip("*")) for pattern in NAMES)


def _files_in(folder: Path) -> ProductFiles:
    return ProductFiles.among(named(folder, "*"))


def _part(source: Source, file: Path) -> Source:
    """One file of the product, called as it is there: its name tells time and polarisation."""
    return Source(file, file.name, source.limits)


def _first_band(source: Source) -> Any:
    return scene_of(source, open_tiff(source)).bands[0]


def _add_incidence(scene: Scene, source: Source, files: ProductFiles, known: Mapping[str, Any]) -> None:
    if not files.incidence:
        return
    gim, shadow = (open_tiff(_part(source, files.incidence[0])) for _ in range(2))
    if (gim.RasterXSize, gim.RasterYSize) != (scene.width_px, scene.height_px):
        scene.notes += (f"{files.incidence[0].name} differs in size from the image and was not used",)
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
