"""The scenes of an archive: below a folder or prefix, in a text list, or in STAC items; by name, date and box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from functools import partial
from urllib.parse import unquote

from runtime.archive.grouping import is_product, product_around, scenes_among
from runtime.archive.plan import Scene
from runtime.archive.stac_source import scenes_of
from runtime.archive.store import Entry, Store, StoreRefused, Stores, absolute, is_absolute, open_store, split
from sarwater.errors import UsageError
from sarwater.scenes.names import day_in

Box = tuple[float, float, float, float]
"""West, south, east, north, in degrees."""
_LISTS, _STAC = ("txt", "lst"), ("json", "geojson")
_AT_A_TIME = 16
"""Folders that are listed at a time."""
_NAMED = 3
"""How many missing scenes a message names."""


@dataclass(frozen=True)
class Filters:
    """Which scenes of an archive are meant."""

    names: Sequence[str] = ()
    """Patterns of their names, as in a shell; none means all."""
    since: date | None = None
    until: date | None = None
    """First and last day, by the STAC item, the scene's name or its path; a scene without a date is left out then."""
    box: Box | None = None
    """Only STAC items that touch it."""

    @classmethod
    def parse(cls, names: Sequence[str], since: str | None, until: str | None, box: str | None) -> Filters:
        """Of a command's options. Raises UsageError."""
        if since and until and since > until:
            raise UsageError(f"--since {since} --until {until}: expected the first day before the last")
        return cls(names, _day(since, "--since"), _day(until, "--until"), _parsed_box(box))

    def keep(self, place: str, day: date | None = None, box: Sequence[float] | None = None) -> bool:
        """`day` and `box` where something better than the scene's place tells them."""
        name = place.rstrip("/").rpartition("/")[2]
        if self.names and not any(fnmatchcase(name, pattern) for pattern in self.names):
            return False
        if self.since or self.until:
            day = day or day_in(name) or day_in(place)
            if day is None or (self.since and day < self.since) or (self.until and day > self.until):
                return False
        return self.box is None or (box is not None and _touch(self.box, box))


def find_scenes(source: str, filters: Filters) -> tuple[str, list[Scene]]:
    """(root, the scenes) of an archive: a folder, a prefix, a scene itself, a `.txt` list, or a STAC collection or
    items (`.json`). There is one at least.

    Raises UsageError, StoreError, StoreRefused.
    """
    kind = source.rpartition(".")[2].lower()
    if filters.box is not None and kind not in _STAC:
        raise UsageError(f"{source}: names say nothing of places; --box is for a STAC collection or items (.json)")
    if kind not in (*_LISTS, *_STAC):
        return _below(source, filters)
    home, name = split(source) if is_absolute(source) else split(f"./{source}")
    root = open_store(home).root
    stores, document = Stores(), absolute(root, name)
    read = partial(_text, stores)
    places: list[tuple[str, str | None]]
    if kind in _LISTS:
        places = [(place, None) for place in _listed(read(document), root) if filters.keep(place)]
    else:
        found = scenes_of(document, read)
        places = [(each.place, each.item) for each in found if filters.keep(each.place, each.day, each.bbox)]
    if not places:
        raise UsageError(f"{source}: {_none(filters)}")
    return root, _located(places, stores, root, source)


def _below(source: str, filters: Filters) -> tuple[str, list[Scene]]:
    store = open_store(source)
    home, name = split(store.root)
    entries = list(_entries(store))
    if entries and not is_product(name, (entry.key for entry in entries)):
        found = [Scene.of(group) for group in scenes_among(entries)]
    elif home.endswith(":/"):  # a bucket
        found = []
    else:  # a scene itself, it may be
        store = open_store(home)
        found = [Scene.of(group) for group in scenes_among(_entries(store)) if group.path == name]
    kept = [scene for scene in found if filters.keep(scene.path)]
    if not kept:
        raise UsageError(f"{source}: {_none(filters) if found else _none(Filters())}")
    return store.root, kept


def _entries(store: Store) -> Iterator[Entry]:
    """With keys that tell themselves from absolute locations, which not every key of a bucket does: `//a.tif`."""
    for entry in store.list():
        yield entry._replace(key=store.url(entry.key)) if is_absolute(entry.key) else entry


def _none(filters: Filters) -> str:
    if filters == Filters():
        return "no scene there; expected .tif, .h5, .SAFE and the like"
    return "no scene there is one that --name, --since, --until and --box let through; change these"


def _text(stores: Stores, place: str) -> str:
    store, key = stores.of(place)
    body = store.read(key)
    if body is None:
        raise UsageError(f"{place}: no such file; expected a list of scenes, or a STAC collection or items")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{place}: not UTF-8 text; expected a list of scenes, or STAC as JSON") from None


def _listed(text: str, home: str) -> list[str]:
    """One location a line, relative to the list or absolute; `#` begins a comment."""
    lines = [line.strip() for line in text.splitlines()]
    return [absolute(home, line) for line in lines if line and not line.startswith("#")]


def _located(places: Iterable[tuple[str, str | None]], stores: Stores, root: str, source: str) -> list[Scene]:
    """Scenes with the sizes and versions of their files, each once, in the order of their folders. A file of a product
    stands for all of it. Paths below `root` are relative to it."""
    wanted: dict[str, str | None] = {}
    for place, item in places:
        if place.startswith(("http://", "https://")):
            raise UsageError(
                f"{place}: not in a store; expected s3://BUCKET/KEY or a path. Copy it into a bucket first"
            )
        wanted.setdefault(product_around(place.rstrip("/")), item)
    found = _looked_up(wanted, stores, root)
    missing = {place: item for place, item in wanted.items() if place not in found}
    found |= _looked_up({unquote(place): item for place, item in missing.items()}, stores, root)  # a link is a URL
    if lacking := [place for place in missing if unquote(place) not in found]:
        more = f" and {len(lacking) - _NAMED:,} more" if len(lacking) > _NAMED else ""
        named = ", ".join(_seen_from(root, place) for place in lacking[:_NAMED])
        raise StoreRefused(f"{source}: it names {named}{more}, not there as a scene; correct it, or copy them")
    return list(found.values())


def _looked_up(wanted: Mapping[str, str | None], stores: Stores, root: str) -> dict[str, Scene]:
    """Those that are there, by their places; each folder is listed once."""
    folders: dict[tuple[Store, str], list[str]] = {}
    for place in wanted:
        store, key = stores.of(place)
        folders.setdefault((store, key.rpartition("/")[0]), []).append(place)

    def look(at: tuple[Store, str]) -> dict[str, Scene]:
        (store, folder), asked = at, set(folders[at])
        listed = (entry._replace(key=store.url(entry.key)) for entry in store.list(folder))
        groups = [group for group in scenes_among(listed) if group.path in asked]
        return {group.path: Scene.of(group, partial(_seen_from, root), wanted[group.path]) for group in groups}

    found: dict[str, Scene] = {}
    with ThreadPoolExecutor(_AT_A_TIME, "listing") as pool:
        for scenes in pool.map(look, folders):
            found |= scenes
    return found


def _seen_from(root: str, place: str) -> str:
    """Relative to `root` where it lies below, and what is left tells itself from an absolute location."""
    rest = place.removeprefix(f"{root}/")
    return place if is_absolute(rest) else rest


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{option} {text}: expected a day, as 2019-07-01") from None


def _parsed_box(text: str | None) -> Box | None:
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--box {text}: expected W,S,E,N in degrees, as 126.5,33,127,34") from None
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise UsageError(f"--box {text}: expected W,S,E,N in degrees, west of east and south of north")
    return west, south, east, north


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    if other[0] > other[2]:  # over the antimeridian, https://www.rfc-editor.org/rfc/rfc7946#section-5.2
        west, south, east, north = other
        return _touch(one, (west, south, 180.0, north)) or _touch(one, (-180.0, south, east, north))
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
