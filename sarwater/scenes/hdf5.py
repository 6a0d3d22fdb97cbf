"""HDF5 files, looked through before GDAL may open them: no byte of another file, no absurd size, values by name.

HDF5 can point to other files in three ways (external links, external storage, virtual datasets), and GDAL follows
all of them. Source: HDF5 user guide, https://support.hdfgroup.org/documentation/hdf5/latest/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.regular import open_regular
from sarwater.request import Limits
from sarwater.scenes.limits import check_declared
from sarwater.scenes.raster import h5py

MAX_ITEMS = 20_000
MAX_DEPTH = 32
MAX_ATTRIBUTE_BYTES = 4 << 20
_MOST_VALUES = 1 << 20
"""Of a dataset that is no raster: a coordinate for each row or column."""
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError, OverflowError)
"""What h5py raises for damaged files; SystemError where a name in it is no text."""


@dataclass(frozen=True)
class Plane:
    """A raster of a file. `path` is its full name, `/S01/SBI`."""

    path: str
    shape: tuple[int, ...]
    """(H, W), or (H, W, 2) in phase and in quadrature."""
    dtype: np.dtype[Any]


class Hdf5File:
    """An opened file without its pixels: what it holds, and what it says of that."""

    def __init__(
        self, file: Any, scene: str, limits: Limits, datasets: Mapping[str, tuple[int, ...]], groups: frozenset[str]
    ) -> None:
        self.datasets = datasets
        """Shape by path, of all of them."""
        self.groups = groups
        """Paths, `/` among them."""
        self._file, self._scene, self._limits = file, scene, limits

    def attributes(self, path: str) -> dict[str, Any]:
        """Of a group or a dataset, by name without spaces: numbers as float or tuple of float, texts as str or tuple
        of str. {} where there is nothing at `path`. Raises SceneUnreadable, SceneUnsafe where they are large."""
        if path not in self.datasets and path not in self.groups:
            return {}
        with _damage(self._scene):
            attributes = self._file[path].attrs
            if len(attributes) > MAX_ITEMS:
                raise SceneUnsafe(f"{self._scene}: {path} has {len(attributes):,} attributes; expected one product")
            names = [name for name in attributes if isinstance(name, str)]  # one that is no text comes as bytes
        known: dict[str, Any] = {}
        for name in names:
            self._check_attribute(path, name, _stored_bytes(attributes, name))
            value = _read(attributes, name)
            if isinstance(value, str | bytes):
                self._check_attribute(path, name, len(value))  # texts of any length are stored elsewhere
            if value is not None:
                known[name.replace(" ", "")] = _plain(value)
        return known

    def _check_attribute(self, path: str, name: str, size: int) -> None:
        if size > MAX_ATTRIBUTE_BYTES:
            raise SceneUnsafe(
                f"{self._scene}: {path} has an attribute {name} of {size:,} bytes; expected {MAX_ATTRIBUTE_BYTES:,} "
                "bytes at most"
            )

    def value(self, path: str) -> Any:
        """Of a dataset that holds no raster, as that of an attribute; None where it is missing, or something else.
        Raises SceneUnreadable, SceneUnsafe."""
        if math.prod(self.datasets.get(path, (_MOST_VALUES + 1,))) > _MOST_VALUES:
            return None
        with _damage(self._scene):
            self._check_declared(self._file[path])
            value = _read(self._file[path], ())
        return None if value is None else _plain(value)

    def numbers(self, path: str) -> npt.NDArray[np.float64] | None:
        """(n,) of a dataset of one axis; None where it is missing, or holds something else. Raises as `value`."""
        if len(self.datasets.get(path, ())) != 1:
            return None
        value = self.value(path)
        values = (value,) if isinstance(value, float) else value
        numeric = isinstance(values, tuple) and all(isinstance(number, float) for number in values)
        return np.array(values) if numeric else None

    def plane(self, path: str) -> Plane:
        """The raster at `path`, which is there and within the limits. Raises SceneUnreadable, SceneUnsafe."""
        shape = self.datasets[path]
        if len(shape) == 3 and shape[0] == 1:
            shape = shape[1:]  # a time, or a band
        with _damage(self._scene):
            dataset = self._file[path]
            dtype, stored_bytes = dataset.dtype, dataset.id.get_storage_size()
        if dtype.kind not in "iufc" or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 2)) or 0 in shape:
            raise SceneUnreadable(
                f"{self._scene}: {path} is {dtype} of shape {shape}; expected numbers in rows and columns: send the "
                "product again"
            )
        if not stored_bytes:
            raise SceneUnreadable(
                f"{self._scene}: {path} declares {shape[1]} x {shape[0]} px and holds none of them; the product was "
                "not finished: send it again"
            )
        with _damage(self._scene):
            self._check_declared(dataset, pixels=shape[0] * shape[1])
        return Plane(path, shape, dtype)

    def _check_declared(self, dataset: Any, pixels: int = 0) -> None:
        item_bytes = dataset.id.get_type().get_size()
        check_declared(
            f"{self._scene}: {dataset.name}",
            self._limits,
            pixels=pixels,
            block_bytes=math.prod(dataset.chunks) * item_bytes if dataset.chunks else 0,
            decoded_bytes=math.prod(dataset.shape) * item_bytes,
            stored_bytes=dataset.id.get_storage_size(),
        )


def is_hdf5(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


@contextmanager
def opened_hdf5(path: Path, limits: Limits, name: str | None = None) -> Iterator[Hdf5File]:
    """Raises SceneTruncated, SceneUnreadable, and SceneUnsafe for links to other files."""
    scene = name or path.name
    with _damage(scene):
        file = h5py.File(path, "r")
    with file:
        with _damage(scene):
            datasets, groups = _contents(file, scene)
        yield Hdf5File(file, scene, limits, datasets, groups)


def _contents(file: Any, scene: str) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    """Shape of each dataset, and the groups, by path. h5py's lower level, as a file may hold hundreds of them, and be
    looked at again and again."""
    links: list[tuple[bytes, int]] = []

    def note(name: bytes, link: Any) -> bool | None:
        """True ends the visit: errors do not pass unharmed through the library's callbacks."""
        links.append((name, link.type))
        return True if len(links) > MAX_ITEMS or name.count(b"/") >= MAX_DEPTH else None

    if file.id.links.visit(note, info=True):
        raise SceneUnsafe(
            f"{scene}: holds more than {MAX_ITEMS:,} groups and arrays, or some more than {MAX_DEPTH} deep; expected "
            "one product"
        )
    datasets: dict[str, tuple[int, ...]] = {}
    groups = {"/"}
    for name, link in links:
        path = "/" + name.decode("utf-8", "backslashreplace")
        if link == h5py.h5l.TYPE_SOFT:
            continue
        if link != h5py.h5l.TYPE_HARD:
            elsewhere = file.id.links.get_val(name)[0].decode("utf-8", "backslashreplace")
            raise SceneUnsafe(
                f"{scene}: {path} is a link to another file ({elsewhere}); expected a product in one file"
            )
        item = h5py.h5o.open(file.id, name)
        if isinstance(item, h5py.h5d.DatasetID):
            created = item.get_create_plist()
            if created.get_external_count() or created.get_layout() == h5py.h5d.VIRTUAL:
                raise SceneUnsafe(
                    f"{scene}: {path} takes its pixels from other files; expected a self-contained product"
                )
            datasets[path] = item.shape or ()
        elif isinstance(item, h5py.h5g.GroupID):
            groups.add(path)
    return datasets, frozenset(groups)


@contextmanager
def _damage(scene: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        if "truncated" in str(error):
            raise SceneTruncated(f"{scene}: the HDF5 file is cut short ({error}); send it again") from error
        raise SceneUnreadable(
            f"{scene}: not a readable HDF5 file ({error}); the file is damaged: send it again"
        ) from error


def _stored_bytes(attributes: Any, name: str) -> int:
    """0 where it cannot be told, nor read."""
    try:
        return int(attributes.get_id(name).get_storage_size())
    except _DAMAGE:
        return 0


def _read(holder: Any, name: Any) -> Any:
    """None where the value is empty, or of a type that h5py cannot read."""
    try:
        value = holder[name]
    except _DAMAGE:
        return None
    return None if isinstance(value, h5py.Empty) else value


def _plain(value: Any) -> Any:
    values = np.asarray(value)
    items = values.ravel().tolist()
    plain: tuple[Any, ...]
    if values.dtype.kind in "iuf":
        plain = tuple(map(float, items))
    elif all(isinstance(item, bytes | str) for item in items):
        plain = tuple(map(_text, items))
    else:
        return str(value)
    return plain[0] if len(plain) == 1 else plain


def _text(text: bytes | str) -> str:
    return (text.decode("ascii", "replace") if isinstance(text, bytes) else text).rstrip("\0 ")
