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

from runtime import raster  # noqa: F401  (sets the HDF5 environment before the library starts)
from runtime.job import SceneLimits
from sarwater.errors import DependencyMissing, SceneTruncated, SceneUnreadable, SceneUnsafe

try:
    import h5py
except ImportError as error:
    raise DependencyMissing(f"h5py is not installed ({error}); it checks HDF5 products: pip install h5py") from error

_SMALL_BYTES = 256 << 20


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


def read_structure(path: Path, limits: SceneLimits) -> Hdf5File:
    """Raises SceneTruncated, SceneUnreadable, and SceneUnsafe for links to other files or absurd sizes."""
    # Errors are raised outside the library's callbacks, through which they do not pass unharmed.
    links: list[tuple[str, str]] = []
    items: list[tuple[str, Any]] = []
    with _opened(path) as file:

        def note_link(name: str, link: Any) -> None:
            if isinstance(link, h5py.ExternalLink):
                links.append((name, link.filename))

        file.visititems_links(note_link)
        if links:
            name, elsewhere = links[0]
            raise SceneUnsafe(
                f"{path.name}: {name} is a link to another file ({elsewhere}); expected a product in one file"
            )
        file.visititems(lambda name, item: items.append((f"/{name}", item)))
        groups = {"/": _attributes(file)}
        datasets: dict[str, Dataset] = {}
        for name, item in items:
            if isinstance(item, h5py.Dataset):
                _check_dataset(path, item, limits)
                datasets[name] = Dataset(name, item.shape or (), _attributes(item))
            else:
                groups[name] = _attributes(item)
    return Hdf5File(groups, datasets)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        if "truncated" in str(error):
            raise SceneTruncated(f"{path.name}: the HDF5 file is cut short ({error}); send it again") from error
        raise SceneUnreadable(
            f"{path.name}: not a readable HDF5 file ({error}); the file is damaged: send it again"
        ) from error


def _check_dataset(path: Path, dataset: Any, limits: SceneLimits) -> None:
    if dataset.external or dataset.is_virtual:
        raise SceneUnsafe(
            f"{path.name}: {dataset.name} takes its pixels from other files; expected a self-contained product"
        )
    stored_bytes = max(dataset.id.get_storage_size(), 1)
    chunk_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize if dataset.chunks else 0
    pixels = int(np.prod(dataset.shape[:2], dtype=np.float64)) if dataset.shape else 0
    for what, found, limit in (
        ("pixels", pixels, limits.pixels),
        ("bytes in one chunk", chunk_bytes, limits.block_bytes),
        (
            "decoded bytes per stored byte",
            dataset.nbytes // stored_bytes if dataset.nbytes > _SMALL_BYTES and dataset.chunks else 0,
            limits.expansion,
        ),
    ):
        if found > limit:
            raise SceneUnsafe(
                f"{path.name}: {dataset.name} declares {found:,} {what}, more than the limit of {limit:,}; "
                "raise it if that is right"
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
