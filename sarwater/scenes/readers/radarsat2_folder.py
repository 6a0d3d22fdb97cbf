"""RADARSAT-2 products in a folder: `product.xml`, a GeoTIFF for each polarisation, lookup tables. See radarsat.py.

SLC and detected products, in radar geometry or on a map. Only lutSigma.xml is used: beta0 and gamma0 follow from it.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from sarwater.errors import SceneUnreadable
from sarwater.scenes.names import polarisation_in
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.polarisations import calibrated, is_complex, open_polarisations
from sarwater.scenes.readers.radarsat import read_lookup_table, read_product, refuse_packed, start_in, tie_points
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import file_named, read_xml

_HEADER, _TABLE = "product.xml", "lutSigma.xml"
_IMAGES = ("imagery_[hv][hv].tif", "imagery_[hv][hv].tiff")


class Radarsat2Folder(Reader):
    name = "RADARSAT-2 folder"
    reads = "GeoTIFF of every polarisation, SLC or detected; lutSigma.xml; control or tie points; time"
    unit = "DN, calibrated to sigma0"
    unused = "noise, lutBeta.xml and lutGamma.xml, quicklooks"
    looks_for = "a folder named RS2_*, or one that holds imagery_*.tif, or product.xml with a lut*.xml"
    images = _IMAGES

    def matches(self, path: Path, name: str) -> bool:
        if not path.is_dir():
            return False
        if named(path, *_IMAGES) or name.upper().startswith("RS2_"):
            return True
        return (path / _HEADER).is_file() and bool(named(path, "lut*.xml"))

    def missing(self, path: Path) -> list[str]:
        if not (path / _HEADER).is_file():
            return [_HEADER]
        root = read_product(path / _HEADER)
        listed = [*_images_in(root), *_tables_in(root)] if root is not None else []
        lack = sorted({name for name in listed if not named(path, name)})
        return lack if lack or named(path, "imagery_*") else ["imagery_*.tif"]

    def open(self, source: Source) -> Scene:
        root = read_xml(source.path / _HEADER)
        poles = _images_in(root)
        files = {file: (poles.get(file.name) or polarisation_in(file.stem)) for file in named(source.path, *_IMAGES)}
        if not files:
            raise SceneUnreadable(f"{source.name}: holds no imagery_*.tif; expected a product in GeoTIFF")
        scene = open_polarisations(source, files)
        refuse_packed(source, root, scene)
        tables = named(source.path, _TABLE)
        sigma0 = read_lookup_table(tables[0], scene.width_px, is_complex(scene.bands[0])) if tables else None
        scene.bands = tuple(calibrated(band, sigma0, _TABLE) for band in scene.bands)
        if sigma0 is None:
            scene.notes += (f"no gains in {_TABLE}: DN were taken for amplitude as they are",)
        if not scene.georeference.known:
            scene.georeference = tie_points(root)
        scene.format = "RADARSAT-2"
        scene.acquired = start_in(root, source.name)
        return scene


def _images_in(root: ElementTree.Element) -> dict[str, str]:
    """The images that `product.xml` lists, with their polarisation in lower case."""
    found = root.findall(".//{*}fullResolutionImageData")
    return {name: image.get("pole", "").lower() for image in found if (name := file_named(image.text))}


def _tables_in(root: ElementTree.Element) -> list[str]:
    found = root.findall(".//{*}lookupTable")
    return [name for table in found if (name := file_named(table.text)).lower() == _TABLE.lower()]
