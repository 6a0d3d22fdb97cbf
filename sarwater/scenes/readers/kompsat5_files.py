"""Which files make up a KOMPSAT-5 product, told by their names alone:

    K5_20240716093112_000001_12345_D_ES04_HH_GTC_B_L1D.tif    the image; an .h5 holds all by itself
    K5_20240716093112_000001_12345_D_ES04_HH_GIM_B_L1D.tif    its incidence-angle mask; or ..._GTC_B_L1D_GIM.tif
    K5_..._GTC_B_L1D_Aux.xml, K5_..._GTC_B_L1D_QL.png         its metadata and its quicklook
    KMPS5_GTC_B_ES_10_HH_RD_P_20190916093251_...              the names of before

Source: KOMPSAT-5 Image Data Manual 1.0 (KARI and SI Imaging Services, 2014), 4.2.2 Naming Convention; SNAP's K5GeoTiff.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath

from sarwater.scenes.readers.kompsat5 import LEVELS

NAMES = ("K5_*", "KMPS5_*")
_MISSIONS = ("K5", "KMPS5")
_TERRAIN_CORRECTED = ("GTC", "WTC")
"""Levels that come with an incidence-angle mask."""
_TIFF = (".tif", ".tiff")
_HDF5 = (".h5", ".hdf5", ".he5")
_NO_DIFFERENCE = {"GIM", "AUX", "QL", "QLK", "B", "I", "Q", *_TERRAIN_CORRECTED}
"""Words in which the names of one product's files differ."""


class Role(Enum):
    """What a file of a product is."""

    IMAGE = "image"
    QUADRATURE = "quadrature component"
    INCIDENCE = "incidence-angle mask"
    AUXILIARY = "_Aux.xml"
    HDF5 = "product"
    UNUSED = "file that is not read"


_COMPANIONS = (Role.QUADRATURE, Role.INCIDENCE, Role.AUXILIARY)


@dataclass(frozen=True)
class ProductFiles:
    """The files of one product that are read, each sort sorted. Nothing lies beside an HDF5 file that it needs."""

    images: tuple[Path, ...]
    quadratures: tuple[Path, ...] = ()
    incidence: tuple[Path, ...] = ()
    auxiliary: tuple[Path, ...] = ()

    @classmethod
    def among(cls, files: Iterable[Path]) -> ProductFiles:
        by_role: dict[Role, list[Path]] = {role: [] for role in Role}
        for file in sorted(files):
            by_role[role_of(file.name)].append(file)
        if by_role[Role.HDF5]:
            return cls(tuple(by_role[Role.HDF5]))
        return cls(tuple(by_role[Role.IMAGE]), *(tuple(by_role[role]) for role in _COMPANIONS))

    @property
    def in_hdf5(self) -> bool:
        return any(role_of(image.name) is Role.HDF5 for image in self.images)

    @property
    def all(self) -> list[Path]:
        return sorted((*self.images, *self.quadratures, *self.incidence, *self.auxiliary))


def role_of(name: str) -> Role:
    """What the file called `name` is in a product's folder, or beside a product's image."""
    path = PurePath(name)
    suffix, words = path.suffix.lower(), _words(name)
    if suffix in _HDF5:
        return Role.HDF5
    if name.lower().endswith("_aux.xml"):
        return Role.AUXILIARY
    if suffix not in _TIFF or {"QL", "QLK"} & set(words):
        return Role.UNUSED
    if "GIM" in path.stem.upper():
        return Role.INCIDENCE
    return Role.QUADRATURE if "Q" in words else Role.IMAGE


def product_of(name: str) -> str | None:
    """What the names of all files of one product have in common; None for a name that is none of KOMPSAT-5's."""
    words = _words(name)
    return "_".join(word for word in words if word not in _NO_DIFFERENCE) if words[0] in _MISSIONS else None


def is_companion(name: str) -> bool:
    """Is it a file that is read with its product's image, and no scene by itself?"""
    return product_of(name) is not None and role_of(name) in _COMPANIONS


def expected_beside(name: str) -> tuple[Role, ...]:
    """What the name of an image says that belongs to it."""
    words = set(_words(name))
    if product_of(name) is None or role_of(name) is not Role.IMAGE or not words & LEVELS.keys():
        return ()
    return (Role.INCIDENCE, Role.AUXILIARY) if words & set(_TERRAIN_CORRECTED) else (Role.AUXILIARY,)


def _words(name: str) -> list[str]:
    return re.split(r"[_\s-]+", PurePath(name).stem.upper())
