"""HDF5 files, looked through before GDAL may open them: no byte of another file, no absurd size, attributes by name.

HDF5 can point to other files in three ways (external links, external storage, virtual datasets), and GDAL follows
all of them. Source: HDF5 user guide, https://support.hdfgroup.org/documentation/hdf5/latest/.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Dataset:
    """One array of a file. `path` is its full name, `/S01/SBI`."""

    path: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    """By attribute name without spaces; numbers as float or tuple of float, texts as str."""


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
    # Errors are raised outside the library's callbacks, through which they do not pass unharmed.
    links: list[tuple[str, str]] = []
    items: list[tuple[str, Any]] = []
    with _opened(path, scene) as file:

        def note_link(name: str, link: Any) -> None:
            if isinstance(link, h5py.ExternalLink):
                links.append((name, link.filename))

        file.visititems_links(note_link)
        if links:
            name, elsewhere = links[0]
            raise SceneUnsafe(
                f"{scene}: {name} is a link to another file ({elsewhere}); expected a product in one file"
            )
        file.visititems(lambda name, item: items.append((f"/{name}", item)))
        groups = {"/": _attributes(file)}
        datasets: dict[str, Dataset] = {}
        for name, item in items:
            if isinstance(item, h5py.Dataset):
                _check_dataset(scene, item, limits)
                datasets[name] = Dataset(name, item.shape or (), _attributes(item))
            else:
                groups[name] = _attributes(item)
    return Hdf5File(groups, datasets)


@contextmanager
def _opened(path: Path, scene: str) -> Iterator[Any]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
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
        pixels=int(np.prod(dataset.shape[:2], dtype=np.float64)) if dataset.shape else 0,
        block_bytes=int(np.prod(dataset.chunks)) * dataset.dtype.itemsize if dataset.chunks else 0,
        decoded_bytes=dataset.nbytes if dataset.chunks else 0,
        stored_bytes=dataset.id.get_storage_size(),
    )


def _attributes(item: Any) -> dict[str, Any]:
    return {name.replace(" ", ""): _plain(value) for name, value in item.attrs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").rstrip("\0 ")
    if isinstance(value, str):
        return value.rstrip("\0 ")
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        return str(value)
    return float(numbers.ravel()[0]) if numbers.size == 1 else tuple(float(number) for number in numbers.ravel())
