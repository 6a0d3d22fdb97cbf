"""Which objects of a listing make one scene, told by their names alone: a listing has nothing else.

What the readers (`sarwater.scenes.readers`) tell by content they tell when the scene is opened; here it only matters
which objects have to be fetched together. A test holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from runtime.archive.store import Entry
from sarwater.scenes.names import polarisation_in, time_in
from sarwater.scenes.readers.kompsat5_files import Role, is_companion, product_of, role_of

_FOLDER = re.compile(r".+\.SAFE|RCM[123]_.*|RS2_.*|(?:TSX|TDX|PAZ)1_SAR__.*|K5_.*|KMPS5_.*", re.IGNORECASE)
"""Names of product folders, which tell a time, but for .SAFE. A folder of many products may be called `K5_2019`."""
_MARKER = re.compile(
    r"(?:(.*)/)?(?:manifest\.safe|metadata/product\.xml|product\.xml|imagery_[^/]*\.tif|(?:TSX|TDX|PAZ)1_SAR__[^/]*\.xml)",
    re.IGNORECASE,
)
"""A file that makes its folder, which group 1 is, a product."""
_SCENE = re.compile(
    r".*\.(?:tiff?|h5|hdf5|he5|nc|ntf|nitf|nsf|dim|hdr|zip|tar|tar\.gz|tgz|gz)", re.IGNORECASE | re.DOTALL
)
_OURS = re.compile(r"(?:.*/)?items/[0-9a-f]{64}(?:/.*|\.json)", re.DOTALL)
"""Products of an archive, which may lie below its scenes."""
_BESIDE = {".hdr": ("", ".img", ".bin", ".dat", ".raw"), ".dim": (".data",)}
"""What belongs to a header: files beside it, or a folder, of the same stem."""


@dataclass(frozen=True, slots=True)
class Group:
    """A scene in a listing."""

    path: str
    """Key of its file or folder."""
    members: tuple[Entry, ...]


def scenes_among(entries: Iterable[Entry]) -> list[Group]:
    """The scenes in a listing, in the order of their paths; what is none is left out."""
    listed = [entry for entry in entries if not _OURS.fullmatch(entry.key)]
    tops = {found[1] or "" for entry in listed if (found := _MARKER.fullmatch(entry.key))} - {""}
    tops |= _polarisation_folders(entry.key for entry in listed)
    folders: dict[str, list[Entry]] = {}
    loose: dict[str, Entry] = {}
    for entry in listed:
        top = _top(entry.key, tops)
        if top is None:
            loose[entry.key] = entry
        else:
            folders.setdefault(top, []).append(entry)
    groups = [Group(path, tuple(members)) for path, members in folders.items()]
    return sorted([*groups, *_loose_scenes(loose)], key=lambda group: group.path)


def is_product(name: str, keys: Iterable[str]) -> bool:
    """Whether a folder of this name with these keys in it is itself a scene."""
    return _names_product(name) or any((found := _MARKER.fullmatch(key)) and not found[1] for key in keys)


def product_around(key: str) -> str:
    """The product whose file `key` is by its place; `key` itself where it is none's."""
    marked = _MARKER.fullmatch(key)
    return _top(key, {marked[1]} if marked and marked[1] else set()) or key


@lru_cache(4096)
def _names_product(folder: str) -> bool:
    return bool(_FOLDER.fullmatch(folder)) and (folder.upper().endswith(".SAFE") or time_in(folder) is not None)


def _polarisation_folders(keys: Iterable[str]) -> set[str]:
    """Folders of ENVI pairs that are the polarisations of one product, each in a pair of its own."""
    headers: dict[str, list[str]] = {}
    for key in keys:
        if key.lower().endswith(".hdr") and ".data/" not in key:
            headers.setdefault(_parent(key), []).append(key.rpartition("/")[2])
    found = set()
    for folder, names in headers.items():
        told = {polarisation_in(name) for name in names} - {None}
        if folder and len(names) > 1 and len(told) == len(names):
            found.add(folder)
    return found


def _top(key: str, tops: set[str]) -> str | None:
    """The uppermost folder on the way to `key` that is a product."""
    end = key.find("/")
    while end >= 0:
        folder = key[:end]
        if folder in tops or _names_product(folder.rpartition("/")[2]):
            return folder
        end = key.find("/", end + 1)
    return None


def is_scene(key: str) -> bool:
    """Whether a file of this name may be a scene by itself."""
    return bool(_SCENE.fullmatch(key))


def _loose_scenes(loose: dict[str, Entry]) -> list[Group]:
    owners = _kompsat5_owners(loose) | _header_owners(loose)
    members: dict[str, list[Entry]] = {}
    for key, entry in loose.items():
        owner = owners.get(key, key)
        if owner != key or is_scene(key):
            members.setdefault(owner, []).append(entry)
    return [Group(path, tuple(entries)) for path, entries in members.items()]


def _kompsat5_owners(loose: dict[str, Entry]) -> dict[str, str]:
    """Companion -> the image that it lies beside."""
    images, companions = {}, []
    for key in loose:
        folder, name = _parent(key), PurePosixPath(key).name
        product = product_of(name)
        if product is None:
            continue
        if is_companion(name):
            companions.append((key, (folder, product)))
        elif role_of(name) is Role.IMAGE:
            images[folder, product] = key
    return {key: images[of] for key, of in companions if of in images}


def _header_owners(loose: dict[str, Entry]) -> dict[str, str]:
    """Pixels -> their ENVI or BEAM-DIMAP header."""
    headers = {key[:-4]: key for key in loose if key[-4:].lower() in _BESIDE}
    if not headers:
        return {}
    owners = {}
    for stem, header in headers.items():
        for suffix in _BESIDE[header[-4:].lower()]:
            if stem + suffix in loose:
                owners[stem + suffix] = header
    for key in loose:
        folder, found, _ = key.partition(".data/")
        if found and folder in headers:
            owners[key] = headers[folder]
    return owners


def _parent(key: str) -> str:
    return key.rpartition("/")[0]
