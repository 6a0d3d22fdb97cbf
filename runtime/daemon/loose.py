"""What lies loose in the inbox, without a folder, and is one product: what belongs together, what is still to come.

One name stands for all of them: the image of a KOMPSAT-5 delivery, whose names tell, or the header of pixels that lie
beside it (`.hdr`, `.dim`), which its reader tells. Once all is complete they become a folder (`Folders.gather`), and
that is claimed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sarwater.errors import SceneError
from sarwater.scenes.readers import find_reader
from sarwater.scenes.readers.kompsat5_files import Role, expected_beside, is_companion, product_of, role_of
from sarwater.scenes.sidecars import image_of

SCENE_SUFFIXES = (".tif", ".tiff", ".h5", ".hdf5", ".he5", ".ntf", ".nitf", ".zip", ".tar", ".tgz", ".gz")
"""A file so named is a scene whatever it holds: a broken one is worth an alarm."""
_UNFINISHED = re.compile(r"\.?(?P<name>.*?\.(?:tiff?|xml))\..+", re.IGNORECASE | re.DOTALL)
"""`NAME.tif.part`, `.NAME.tif.Xa12bC`."""


class LooseFiles:
    """The names in the inbox by product, as far as they are those of one, and by the image whose place they say."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._by_product: dict[str, set[str]] = defaultdict(set)
        self._sidecars: dict[str, set[str]] = defaultdict(set)
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        if product := product_of(name):
            self._by_product[product].add(name)
        if image := image_of(name):
            self._sidecars[image].add(name)

    def discard(self, name: str) -> None:
        self._by_product.get(product_of(name) or "", set()).discard(name)
        self._sidecars.get(image_of(name) or "", set()).discard(name)

    def sidecars_of(self, image: str) -> tuple[str, ...]:
        """Files that would say where an image lies, and are not read; sorted."""
        return tuple(sorted(self._sidecars.get(Path(image).stem.lower(), ())))

    def image_of(self, name: str) -> str | None:
        """The image that the file `name` is read with; None where it is none of those, or the image is not here."""
        return self._image(name) if is_companion(name) else None

    def companions(self, image: str) -> list[str]:
        """Names of what is read with the image `image`, sorted."""
        if product_of(image) is None or self._image(image) != image:
            return []
        return sorted(filter(is_companion, self._of_product(image)))

    def _image(self, name: str) -> str | None:
        return min((other for other in self._of_product(name) if role_of(other) is Role.IMAGE), default=None)

    def _of_product(self, name: str) -> Collection[str]:
        return self._by_product.get(product_of(name) or "", ())


@dataclass(frozen=True)
class Parts:
    """A product of several names beside each other."""

    kind: str
    """What its reader calls it."""
    head: str
    """The name that stands for it, here or still to come."""
    others: tuple[str, ...]
    """What belongs to the name that was asked for, here or still to come."""

    @property
    def waits(self) -> str:
        return f"one part of a {self.kind}; it waits for {self.head}, which is not here"


def parts_of(path: Path) -> Parts | None:
    """Of the product that `path` is a part of; None where it is one by itself, or none."""
    if path.suffix.lower() not in SCENE_SUFFIXES and (reader := find_reader(path)) is not None:
        with suppress(OSError, SceneError):  # it changed meanwhile
            if others := reader.beside(path):
                return Parts(reader.name, reader.head(path).name, tuple(others))
    return None


def lacking(image: str, beside: Iterable[str]) -> tuple[str, ...]:
    """What the name of an image says that belongs to it, and is not `beside` it."""
    there = {role_of(name) for name in beside}
    return tuple(f"its {role.value}" for role in expected_beside(image) if role not in there)


def is_product(beside: Iterable[str]) -> bool:
    """Do these companions make one product of an image? Without its metadata it is a picture of its own."""
    return any(role_of(name) is Role.AUXILIARY for name in beside)


def is_uploaded(image: str, names: Iterable[str]) -> bool:
    """Is a file that belongs to `image` still on its way, under the name of an upload?"""
    finals = (found["name"] for name in names if (found := _UNFINISHED.fullmatch(name)))
    return any(is_companion(name) and product_of(name) == product_of(image) for name in finals)


def why_no_scene(path: Path) -> str:
    """Why a file of a product is no scene by itself; empty where it may be one."""
    name = path.name
    if product_of(name) is None:
        return ""
    if is_companion(name):
        return f"the {role_of(name).value} of a KOMPSAT-5 product, which is read with its image; that is not here"
    is_quicklook = role_of(name) is Role.UNUSED and path.suffix.lower() in (".tif", ".tiff")
    if is_quicklook or (role_of(name) is Role.UNUSED and find_reader(path) is None):
        return "it came with a KOMPSAT-5 product and is not read"
    return ""
