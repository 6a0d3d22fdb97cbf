"""RADARSAT Constellation Mission products in a folder: `metadata/product.xml`, a GeoTIFF for each polarisation in
`imagery`, and lookup tables in `metadata/calibration` or `calibration`. See radarsat.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from sarwater.errors import SceneUnreadable
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.polarisations import calibrated, is_complex, open_polarisations
from sarwater.scenes.readers.radarsat import read_lookup_table, read_product, refuse_packed, start_in, tie_points
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import file_named, read_xml

_NAME = re.compile(r"RCM[1-3]_", re.IGNORECASE)
_POLE = re.compile(r"(?<![A-Za-z])([HVC][HV])(?![A-Za-z])")
"""CH and CV: circular transmitted, of compact polarimetry."""
_HEADER = Path("metadata", "product.xml")
_TABLES = (Path("metadata", "calibration"), Path("calibration"))


class RcmFolder(Reader):
    name = "RCM folder"
    reads = "GeoTIFF of every polarisation, compact ones too; lutSigma_*.xml; control or tie points; time"
    unit = "DN, calibrated to sigma0"
    unused = "noise, lutBeta and lutGamma, incidence angles, NITF, quicklooks"
    looks_for = "a folder named RCM1_* to RCM3_*, or one that holds metadata/product.xml"
    images = ("imagery/*.tif", "imagery/*.tiff")

    def matches(self, path: Path, name: str) -> bool:
        return path.is_dir() and ((path / _HEADER).is_file() or _NAME.match(name) is not None)

    def missing(self, path: Path) -> list[str]:
        if not (path / _HEADER).is_file():
            return [str(_HEADER)]
        root = read_product(path / _HEADER)
        lack = [f"imagery/{name}" for name in _images_in(root) if not named(path / "imagery", name)]
        lack += [f"calibration/{name}" for name in _tables_in(root).values() if _table(path, name) is None]
        return lack if lack or named(path / "imagery", "*.*") else ["imagery/*.tif"]

    def open(self, source: Source) -> Scene:
        root = read_xml(source.path / _HEADER)
        poles, tables = _images_in(root), _tables_in(root)
        images = named(source.path / "imagery", "*.tif", "*.tiff")
        if not images:
            raise SceneUnreadable(f"{source.name}: holds no imagery/*.tif; expected an RCM product in GeoTIFF")
        scene = open_polarisations(source, {file: poles.get(file.name) or _pole_of(file) for file in images})
        refuse_packed(source, root, scene)
        bands = []
        for band in scene.bands:
            pole = (band.polarisation or "").upper()
            table = _table(source.path, tables.get(pole, f"lutSigma_{pole}.xml"))
            sigma0 = read_lookup_table(table, scene.width_px, is_complex(band)) if table else None
            if sigma0 is None or table is None:
                scene.notes += (f"{band.label}: no gains of sigma0: DN were taken for amplitude as they are",)
            bands.append(calibrated(band, sigma0, table.name if table else ""))
        scene.bands = tuple(bands)
        if not scene.georeference.known:
            scene.georeference = tie_points(root)
        scene.format = "RCM"
        scene.acquired = start_in(root, source.name)
        return scene


def _pole_of(file: Path) -> str | None:
    found = set(_POLE.findall(file.stem.upper()))
    return found.pop().lower() if len(found) == 1 else None


def _table(folder: Path, name: str) -> Path | None:
    return next((file for place in _TABLES for file in named(folder / place, name)), None)


def _images_in(root: ElementTree.Element | None) -> dict[str, str]:
    """The images that `product.xml` lists, with their polarisation in lower case."""
    found = root.findall(".//{*}ipdf") if root is not None else []
    return {name: image.get("pole", "").lower() for image in found if (name := file_named(image.text))}


def _tables_in(root: ElementTree.Element | None) -> dict[str, str]:
    """The tables of sigma0 that `product.xml` lists, by polarisation in upper case."""
    found = root.findall(".//{*}lookupTableFileName") if root is not None else []
    return {
        table.get("pole", "").upper(): name
        for table in found
        if table.get("sarCalibrationType", "").lower().startswith("sigma") and (name := file_named(table.text))
    }
