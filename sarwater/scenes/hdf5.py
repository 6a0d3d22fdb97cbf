"""HDF5 files, looked through before GDAL may open them: no byte of another file, no absurd size, attributes by name.

HDF5 can point to other files in three ways (external links, external storage, virtual datasets), and GDAL follows
all of them. Source: HDF5 user guide, https://support.hdfgroup.org/documentation/hdf5/latest/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sarwater.errors import SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.request import Limits
from sarwater.scenes.limits import check_declared
from sarwater.scenes.raster import h5py

MAX_ITEMS = 20_000
MAX_DEPTH = 32
MAX_ATTRIBUTE_BYTES = 4 << 20


@dataclass(frozen=True)
class Dataset:
    """One array of a file. `path` is its full name, `/S01/SBI`."""

    path: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    """By attribute name without spaces; numbers as float or tuple of float, texts as str."""
    decoded_bytes: int = 0
    stored_bytes: int = 0

    def check_expansion(self, scene: str, limits: Limits) -> None:
        """For what is read as an image: layers that nobody reads may be as empty as they like. Raises SceneUnsafe."""
        check_declared(
            f"{scene}: {self.path}", limits, decoded_bytes=self.decoded_bytes, stored_bytes=self.stored_bytes
        )


@dataclass(frozen=True)
class Hdf5File:
    """What a file holds, without its pixels."""

    attributes: dict[str, dict[str, Any]]
    """Group path (`/`, `/S01`) -> its attributes."""
    datasets: dict[str, Dataset]


def is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def read_structure(path: Path, limits: Limits, name: str | None = None) -> Hdf5File:
    """Raises SceneTruncated, SceneUnreadable, and SceneUnsafe for links to other files or absurd sizes."""
    scene = name or path.name
    with _opened(path, scene) as file:
        groups = {"/": _attributes(scene, file)}
        datasets: dict[str, Dataset] = {}
        for name, item in _items(scene, file):
            if isinstance(item, h5py.Dataset):
                _check_dataset(scene, item, limits)
                shape = item.shape or ()
                decoded_bytes = math.prod(map(int, shape)) * item.dtype.itemsize
                datasets[name] = Dataset(
                    name, shape, _attributes(scene, item), decoded_bytes, item.id.get_storage_size()
                )
            else:
                groups[name] = _attributes(scene, item)
    return Hdf5File(groups, datasets)


def _items(scene: str, file: Any) -> Iterator[tuple[str, Any]]:
    """Every group, type and dataset with its full name, each once. Not with the library's own visitors: through their
    callbacks no error passes unharmed, and nothing bounds them. Raises SceneUnsafe."""
    waiting, seen = [("", file)], {_address(file)}
    while waiting:
        above, group = waiting.pop()
        for key in group:
            name = f"{above}/{key}"
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise SceneUnsafe(
                    f"{scene}: {name} is a link to another file ({link.filename}); expected a product in one file"
                )
            if isinstance(link, h5py.SoftLink):
                continue  # to what is found by itself
            item = group[key]
            if (address := _address(item)) in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_ITEMS or name.count("/") > MAX_DEPTH:
                raise SceneUnsafe(
                    f"{scene}: holds more than {MAX_ITEMS:,} groups and arrays, or some more than {MAX_DEPTH} deep; "
                    "expected one product"
                )
            yield name, item
            if isinstance(item, h5py.Group):
                waiting.append((name, item))


def _address(item: Any) -> tuple[int, int]:
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


@contextmanager
def _opened(path: Path, scene: str) -> Iterator[Any]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError) as error:
        if "truncated" in str(error):
            raise SceneTruncated(f"{scene}: the HDF5 file is cut short ({error}); send it again") from error
        raise SceneUnreadable(
            f"{scene}: not a readable HDF5 file ({error}); the file is damaged: send it again"
        ) from error


def _check_dataset(scene: str, dataset: Any, limits: Limits) -> None:
    if dataset.external or dataset.is_virtual:
        raise SceneUnsafe(
            f"{scene}: {dataset.name} takes its pixels from other files; expected a self-contained product"
        )
    check_declared(
        f"{scene}: {dataset.name}",
        limits,
        pixels=math.prod(map(int, dataset.shape[:2])) if dataset.shape else 0,
        block_bytes=math.prod(map(int, dataset.chunks)) * dataset.dtype.itemsize if dataset.chunks else 0,
    )


def _attributes(scene: str, item: Any) -> dict[str, Any]:
    """Raises SceneUnsafe for a large one, or for very many."""
    found: dict[str, Any] = {}
    for name in item.attrs:
        size = item.attrs.get_id(name).get_storage_size()
        value = item.attrs[name] if size <= MAX_ATTRIBUTE_BYTES else None
        if isinstance(value, str | bytes):
            size = len(value)  # texts of any length are stored elsewhere
        if size > MAX_ATTRIBUTE_BYTES or len(found) > MAX_ITEMS:
            raise SceneUnsafe(
                f"{scene}: {item.name} has an attribute of {size:,} bytes, or more than {MAX_ITEMS:,}; expected "
                f"{MAX_ATTRIBUTE_BYTES:,} bytes at most"
            )
        found[name.replace(" ", "")] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").rstrip("\0 ")
    if isinstance(value, str):
        return value.rstrip("\0 ")
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        return str(value)
    return float(numbers.ravel()[0]) if numbers.size == 1 else tuple(float(number) for number in numbers.ravel())
