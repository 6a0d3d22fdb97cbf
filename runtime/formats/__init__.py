"""What a path is: a GeoTIFF, an HDF5 product, a product folder; and its identity."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from runtime.formats.geotiff import open_geotiff
from runtime.formats.product import Product
from runtime.formats.tiff import is_tiff
from runtime.job import SceneLimits
from sarwater.errors import SceneEmpty, SceneMissing, SceneUnreadable, SceneUnsafe
from sarwater.manifest import sha256_of

_MAX_FOLDER_FILES = 1000


def open_product(path: Path, limits: SceneLimits) -> Product:
    """Open a scene of any accepted format: told by content, never by name.

    Raises SceneMissing, SceneEmpty, SceneTruncated, SceneUnreadable, SceneUnsafe.
    """
    check_files(path, limits)
    if path.is_dir():
        return _open_folder(path, limits)
    if is_tiff(path):
        return open_geotiff(path, limits)
    from runtime.formats.hdf5 import is_hdf5

    if is_hdf5(path):
        from runtime.formats.kompsat5 import open_hdf5_product

        return open_hdf5_product(path, limits)
    raise SceneUnreadable(
        f"{path.name}: not a format this version reads; expected GeoTIFF, KOMPSAT-5 or COSMO-SkyMed HDF5, or a product "
        "folder (KOMPSAT-5, Sentinel-1 SAFE): convert it with gdal_translate"
    )


def _open_folder(path: Path, limits: SceneLimits) -> Product:
    from runtime.formats import kompsat5, sentinel1

    if sentinel1.is_safe(path):
        return sentinel1.open_safe(path, limits)
    return kompsat5.open_folder(path, limits)


def check_files(path: Path, limits: SceneLimits) -> None:
    """Every file is regular, not empty and not too large. Raises SceneMissing, SceneEmpty, SceneUnsafe."""
    for file in _members(path):
        try:
            size = file.stat().st_size
        except OSError as error:
            raise SceneMissing(f"{file}: {error.strerror}; expected a readable SAR scene") from error
        if not file.is_file():
            raise SceneMissing(f"{file}: not a regular file; expected a SAR scene")
        if size == 0 and file == path:
            raise SceneEmpty(f"{path.name}: an empty file; the transfer failed: send it again")
        if size > limits.file_bytes:
            raise SceneUnsafe(
                f"{file.name}: {size:,} bytes, more than the limit of {limits.file_bytes:,}; raise it if that is right"
            )


def hash_input(path: Path) -> str:
    """The sha256 of a scene's bytes; of a folder, over names and hashes of its files. Raises as check_files does."""
    try:
        if not path.is_dir():
            if path.exists() and not path.is_file():  # a pipe would be read for ever
                raise SceneMissing(f"{path}: not a regular file; expected a SAR scene")
            return sha256_of(path)
        digest = hashlib.sha256()
        for file in _members(path):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise SceneMissing(f"{path}: {error.strerror}; expected a readable SAR scene") from error


def input_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in _members(path))


def _members(path: Path) -> list[Path]:
    """The files of a scene, sorted; a file is its own only member."""
    if not path.is_dir():
        return [path]
    files: list[Path] = []
    for folder, folders, names in os.walk(path):
        files += [Path(folder, name) for name in names]
        if links := [name for name in (*folders, *names) if Path(folder, name).is_symlink()]:
            raise SceneUnsafe(f"{path.name}/{links[0]}: a symbolic link; expected a folder of regular files")
        if len(files) > _MAX_FOLDER_FILES:
            raise SceneUnsafe(f"{path.name}: holds more than {_MAX_FOLDER_FILES} files; expected one product")
    return sorted(files)
