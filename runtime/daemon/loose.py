"""Files of one product that lie loose in the inbox, without a folder: which belong together, what is still to come.

The image stands for all of them. Once it is complete they become a folder (`Folders.gather`), and that is claimed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from sarwater.scenes.readers import find_reader
from sarwater.scenes.readers.kompsat5_files import Role, expected_beside, is_companion, product_of, role_of

_UNFINISHED = re.compile(r"\.?(?P<name>.*?\.(?:tiff?|xml))\..+", re.IGNORECASE | re.DOTALL)
"""`NAME.tif.part`, `.NAME.tif.Xa12bC`."""


class LooseFiles:
    """The names in the inbox by product, as far as they are those of one."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._by_product: dict[str, set[str]] = defaultdict(set)
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        if product := product_of(name):
            self._by_product[product].add(name)

    def discard(self, name: str) -> None:
        self._by_product.get(product_of(name) or "", set()).discard(name)

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
