"""A folder of products as a static STAC catalogue: `collection.json`, which links to the items beside it.

    collection.json           made of the items; may be deleted at any time
    NAME_water.json           the item of a scene, `runtime.products.stac`

Sources: STAC 1.1.0, https://stacspec.org, and its best practices for static catalogues.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sarwater import __version__
from sarwater.atomic import fsync_folder
from sarwater.regular import open_regular

COLLECTION = "collection.json"
COLLECTION_ID = "sarwater"
COLLECTION_TITLE = "Water masks of SAR scenes"
ITEM_SUFFIX = "_water.json"
LINKS_OF_ITEM = tuple(
    {"rel": rel, "href": f"./{COLLECTION}", "type": "application/json", "title": COLLECTION_TITLE}
    for rel in ("root", "parent", "collection")
)
"""Of an item that lies beside its collection."""
_SHARE = 0.02
"""Of the time, at most, in which the collection is written: that takes longer the more items there are."""
_WORLD = (-180.0, -90.0, 180.0, 90.0)


class Catalogue:
    """Keeps the catalogue of a folder that fills, at a small share of the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen_ns = -1
        self._next_s = 0.0

    def update(self, now: bool = False) -> None:
        """Where the folder has changed and it is time; `now`: whether or not it is time. Raises OSError."""
        changed_ns = self._folder.stat().st_mtime_ns
        started_s = time.monotonic()
        if changed_ns != self._seen_ns and (now or started_s >= self._next_s):
            if update_catalogue(self._folder) is not None:
                self._seen_ns = changed_ns
            self._next_s = time.monotonic() + (time.monotonic() - started_s) / _SHARE


def update_catalogue(folder: Path) -> int | None:
    """Make `collection.json` name all items in `folder`, and return how many there are.

    Only items that are new since the last time are read. Where there is none, or the `collection.json` is somebody
    else's, nothing is written; nor where another process is at it, which is None. Raises OSError.
    """
    path = folder / COLLECTION
    there = {entry.name for entry in os.scandir(folder) if entry.name.endswith(ITEM_SUFFIX)}
    old = _read(path)
    known = {href.removeprefix("./") for href in _hrefs(old)}
    foreign = bool(old) and old.get("id") != COLLECTION_ID
    if known == there or foreign:
        return 0 if foreign else len(there)
    if known - there:
        old, known = {}, set()  # the extent of those that are gone cannot be taken away
    boxes, times = extent_of(old) if known else ([], [])
    for name in sorted(there - known):
        if item := _read(folder / name):
            properties = item.get("properties")
            boxes += _boxes([item.get("bbox")])
            times += _times([properties.get("datetime")] if isinstance(properties, dict) else [])
            known.add(name)
    links = [
        {"rel": "item", "href": f"./{name}", "type": "application/geo+json", "title": name.removesuffix(ITEM_SUFFIX)}
        for name in sorted(known)
    ]
    return len(links) if _write(path, collection_of(links, boxes, times)) else None


def collection_of(
    links: Sequence[Mapping[str, Any]], boxes: Iterable[Sequence[float]], times: Iterable[str]
) -> dict[str, Any]:
    """A STAC collection of items: their links, boxes (west, south, east, north in degrees) and times (ISO 8601)."""
    times = list(times)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": COLLECTION_ID,
        "title": COLLECTION_TITLE,
        "description": f"Made by sarwater {__version__}: one item per scene, with its mask and side products.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [_around(boxes)]},
            "temporal": {"interval": [[min(times, default=None), max(times, default=None)]]},
        },
        "links": [{"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"}, *links],
    }


def _around(boxes: Iterable[Sequence[float]]) -> list[float]:
    """The box around boxes; all longitudes where one crosses the antimeridian, the world where there is none."""
    whole = [
        (-180.0, south, 180.0, north) if west > east else (west, south, east, north)
        for west, south, east, north in boxes
    ]
    if not whole:
        return list(_WORLD)
    west, south, east, north = zip(*whole, strict=True)
    return [min(west), min(south), max(east), max(north)]


def _read(path: Path) -> dict[str, Any]:
    """Empty where there is none, or it is damaged."""
    try:
        with open_regular(path) as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and document.get("type") in ("Feature", "Collection") else {}


def _hrefs(collection: Mapping[str, Any]) -> list[str]:
    links = collection.get("links")
    found = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return [str(link.get("href")) for link in found if link.get("rel") == "item"]


def _boxes(found: Any) -> list[list[float]]:
    """Those that are one: what lies in the folder may be of anybody."""
    several = found if isinstance(found, list) else []
    return [
        box
        for box in several
        if isinstance(box, list) and len(box) == 4 and all(type(edge) in (int, float) for edge in box)
    ]


def _times(found: Any) -> list[str]:
    return [time for time in found if isinstance(time, str)] if isinstance(found, list) else []


def extent_of(collection: Mapping[str, Any]) -> tuple[list[list[float]], list[str]]:
    """(boxes, times) that a collection was made of, as far as it tells."""
    try:
        extent = collection["extent"]
        boxes, times = extent["spatial"]["bbox"], extent["temporal"]["interval"][0]
    except (LookupError, TypeError):
        return [], []
    return [box for box in _boxes(boxes) if tuple(box) != _WORLD], _times(times)


def _write(path: Path, collection: Mapping[str, Any]) -> bool:
    """Under one name aside, which whoever is at it locks; false where that is another. The folder itself is locked by
    its daemon."""
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not aside.exists() or not os.path.samestat(os.fstat(file.fileno()), aside.stat()):
            return False  # another process finished in between, and this is its collection
        file.truncate(0)
        file.write(json.dumps(collection, indent=1, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        os.replace(aside, path)
    fsync_folder(path.parent)
    return True
