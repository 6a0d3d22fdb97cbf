"""A KOMPSAT-5 product without a folder: its image, with what belongs to it beside it among other files."""

from __future__ import annotations

import stat
from pathlib import Path

from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.kompsat5_files import NAMES, ProductFiles, Role, product_of, role_of
from sarwater.scenes.readers.kompsat5_folder import open_product
from sarwater.scenes.scene import Scene
from sarwater.scenes.tiff import is_tiff


class Kompsat5Flat(Reader):
    name = "KOMPSAT-5 image with its files beside it"
    looks_for = "a GeoTIFF named K5_* or KMPS5_*, beside the _Aux.xml of that product"
    reads = "as of a KOMPSAT-5 folder: the image that is named, `_Aux.xml`, incidence angles and radar shadow (GIM)"
    unit = "amplitude in DN; sigma0 where `_Aux.xml` says the calibration"
    unused = "quicklooks, checksum lists, the files of other products"

    def matches(self, path: Path, name: str) -> bool:
        mine = role_of(path.name) is Role.IMAGE and product_of(path.name) is not None
        return mine and path.is_file() and is_tiff(path) and bool(_files_of(path).auxiliary)

    def members(self, path: Path) -> list[Path]:
        return _files_of(path).all

    def open(self, source: Source) -> Scene:
        return open_product(source, _files_of(source.path))


def _files_of(image: Path) -> ProductFiles:
    """The image, and the regular files of its product beside it, or beside what it is a link to."""
    home = image.resolve().parent if image.is_symlink() else image.parent
    product = product_of(image.name)
    beside = [
        file
        for file in named(home, *NAMES)
        if product_of(file.name) == product and role_of(file.name) is not Role.HDF5 and _is_regular(file)
    ]
    found = ProductFiles.among(beside)
    return ProductFiles((image,), found.quadratures, found.incidence, found.auxiliary)


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False
