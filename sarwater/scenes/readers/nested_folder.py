"""A folder around one product's folder, as browsers, archives and download tools leave it."""

from __future__ import annotations

from pathlib import Path

from sarwater.errors import SceneIncomplete
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.products_within import lack_of, levels
from sarwater.scenes.scene import Scene


class NestedFolder(Reader):
    name = "folder around one product"
    looks_for = "a folder that holds the whole folder of one product, and no other product"
    reads = "what the product in it is read for"
    unit = "that of the product"
    unused = "files beside the product"

    def matches(self, path: Path, name: str) -> bool:
        return _product_in(path, name) is not None

    def members(self, path: Path) -> list[Path]:
        reader, folder = _the_product(path)
        return reader.members(folder)

    def open(self, source: Source) -> Scene:
        reader, folder = _the_product(source.path)
        return reader.open(Source(folder, folder.name, source.limits))


def _product_in(path: Path, name: str) -> Path | None:
    """The folder of the only product of the uppermost level below `path` that holds some."""
    if not path.is_dir() or not (_wraps_its_like(path, name) or lack_of(path, name) is None):
        return None
    products = next(levels(path, name), [])
    return products[0][0] if len(products) == 1 and products[0][0].is_dir() else None


def _wraps_its_like(path: Path, name: str) -> bool:
    """Whether nothing lies in it but a folder of its own name, which alone makes it look like a product."""
    return [entry.name.lower() for entry in named(path, "*")] == [name.lower()] and (path / name).is_dir()


def _the_product(path: Path) -> tuple[Reader, Path]:
    """Raises SceneIncomplete where it is not whole any more."""
    from sarwater.scenes.readers import find_reader  # which knows this reader

    folder = _product_in(path, path.name)
    reader = find_reader(folder) if folder is not None else None
    if folder is None or reader is None:
        raise SceneIncomplete(f"{path.name}: changed meanwhile; send all of the product")
    return reader, folder
