"""The scenes of an archive: below a folder or prefix, in a text list, or in STAC items; by name, date and box."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from runtime.archive.grouping import scenes_among
from runtime.archive.plan import Scene
from runtime.archive.store import Entry, Store, StoreRefused, is_absolute, open_store, split
from sarwater.errors import UsageError
from sarwater.scenes.names import time_in

Box = tuple[float, float, float, float]
"""West, south, east, north, in degrees."""


@dataclass(frozen=True)
class Filters:
    """Which scenes of an archive are meant."""

    names: Sequence[str] = ()
    """Patterns of their names, as in a shell; none means all."""
    since: date | None = None
    until: date | None = None
    """First and last day, by the STAC item or the scene's name; a scene without a date is left out then."""
    box: Box | None = None
    """Only STAC items that touch it."""

    def keep(self, name: str, when: str | None, box: Sequence[float] | None) -> bool:
        if self.names and not any(fnmatchcase(name, pattern) for pattern in self.names):
            return False
        if self.since or self.until:
            day = date.fromisoformat(when[:10]) if when else None
            if day is None or (self.since and day < self.since) or (self.until and day > self.until):
                return False
        return self.box is None or (box is not None and _touch(self.box, _flat(box)))


def find_scenes(source: str, filters: Filters) -> tuple[str, list[Scene]]:
    """(root, the scenes) of an archive: a folder, a prefix, a `.txt` list, or a STAC collection or items (`.json`).

    Raises UsageError, StoreError, StoreRefused.
    """
    kind = source.rpartition(".")[2].lower()
    if kind not in ("txt", "lst", "json", "geojson"):
        if filters.box is not None:
            raise UsageError(f"{source}: names say nothing of places; --box is for a STAC collection or items (.json)")
        store = open_store(source)
        groups = scenes_among(store.list())
        scenes = (Scene.of(group) for group in groups)
        return store.root, [scene for scene in scenes if filters.keep(scene.name, _day(scene.name, filters), None)]
    root, name = split(source) if is_absolute(source) else split(f"./{source}")
    store = open_store(root)
    text = _text(store, name, source)
    found = _of_list(text, store, filters) if kind in ("txt", "lst") else _of_stac(text, name, store, filters)
    return store.root, list(found)


def _text(store: Store, key: str, said: str) -> str:
    body = store.read(key)
    if body is None:
        raise UsageError(f"{said}: no such file; expected a list of scenes, or a STAC collection or items")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{said}: not UTF-8 text; expected a list of scenes, or STAC as JSON") from None


def _of_list(text: str, store: Store, filters: Filters) -> Iterator[Scene]:
    """One location a line, relative to the list or absolute; `#` begins a comment."""
    if filters.box is not None:
        raise UsageError("a text list says nothing of places; --box is for a STAC collection or items (.json)")
    lines = [line.strip() for line in text.splitlines()]
    places = [_joined(store.root, store.root, line) for line in lines if line and not line.startswith("#")]
    yield from _located([(place, None) for place in places if _kept(place, filters)], store)


def _kept(place: str, filters: Filters) -> bool:
    name = place.rstrip("/").rpartition("/")[2]
    return filters.keep(name, _day(name, filters), None)


def _of_stac(text: str, name: str, store: Store, filters: Filters) -> Iterator[Scene]:
    wanted = []
    for item, home, said in _items(text, name, store):
        asset = _scene_asset(item)
        if asset is None:
            continue
        place = _joined(store.root, home, asset)
        when = item.get("properties", {}).get("datetime") or item.get("properties", {}).get("start_datetime")
        if filters.keep(place.rpartition("/")[2], when, item.get("bbox")):
            wanted.append((place, said))
    yield from _located(wanted, store)


def _items(
    text: str, name: str, store: Store, seen: set[str] | None = None
) -> Iterator[tuple[dict[str, Any], str, str | None]]:
    """(item, the folder that its hrefs count from, its own address) of a STAC document and the catalogues below it."""
    seen = {store.url(name)} if seen is None else seen
    home = split(store.url(name))[0]
    try:
        document = json.loads(text)
        kind = document["type"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise UsageError(f"{store.url(name)}: no STAC; expected a collection, a catalogue, an item or items") from None
    if kind == "FeatureCollection":
        for item in document.get("features", ()):
            yield item, home, _self_of(item)
    elif kind == "Feature":
        yield document, home, store.url(name)
    else:
        for link in document.get("links", ()):
            if link.get("rel") in ("item", "child", "items"):
                place = _joined(store.root, home, link["href"])
                root, key = split(place) if is_absolute(place) else (store.root, place)
                below = store if root == store.root else open_store(root)
                if below.url(key) not in seen:
                    seen.add(below.url(key))
                    yield from _items(_text(below, key, place), key, below, seen)


def _self_of(item: Mapping[str, Any]) -> str | None:
    return next((link["href"] for link in item.get("links", ()) if link.get("rel") == "self"), None)


def _scene_asset(item: Mapping[str, Any]) -> str | None:
    """The href of the asset that is the scene: the one with the role `data`, else the only one."""
    assets = [asset for asset in item.get("assets", {}).values() if "href" in asset]
    data = [asset for asset in assets if "data" in (asset.get("roles") or ())] or (assets if len(assets) == 1 else [])
    return data[0]["href"] if data else None


def _located(places: Sequence[tuple[str, str | None]], store: Store) -> Iterator[Scene]:
    """Scenes with the sizes and versions of their files: each folder is listed once."""
    listings: dict[str, dict[str, Scene]] = {}
    for place, item in places:
        if place.startswith(("http://", "https://")):
            raise UsageError(
                f"{place}: not in a store; expected s3://BUCKET/KEY or a path. Copy it into a bucket first"
            )
        place = place.rstrip("/")
        folder = split(place)[0] if is_absolute(place) else place.rpartition("/")[0]
        if folder not in listings:
            listings[folder] = _listing(folder, store)
        found = listings[folder].get(place)
        if found is None:
            raise StoreRefused(f"{place}: listed, and not there as a scene; correct the list")
        yield Scene(found.path, found.files, item)


def _listing(folder: str, store: Store) -> dict[str, Scene]:
    inside = open_store(folder) if is_absolute(folder) else store
    prefix = "" if is_absolute(folder) else folder
    entries: list[Entry] = []
    for entry in inside.list(prefix):
        entries.append(entry._replace(key=f"{folder}/{entry.key}") if is_absolute(folder) else entry)
    return {group.path: Scene.of(group) for group in scenes_among(entries)}


def _joined(root: str, home: str, href: str) -> str:
    """`href` in a document that lies in the folder `home`: relative to `root` where it lies below, else absolute."""
    place = href.removeprefix("file://")
    if not is_absolute(place):
        scheme, mark, path = home.rpartition("://")
        place = scheme + mark + posixpath.normpath(posixpath.join(path, place))
    return place.removeprefix(f"{root}/")


def _day(name: str, filters: Filters) -> str | None:
    return time_in(name) if filters.since or filters.until else None


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _flat(box: Sequence[float]) -> Sequence[float]:
    """Without heights."""
    return box if len(box) == 4 else (box[0], box[1], box[3], box[4])
