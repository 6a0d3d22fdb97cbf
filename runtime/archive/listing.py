"""The scenes of an archive: below a folder or prefix, in a text list, or in STAC items; by name, date and box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from runtime.archive.grouping import is_product, scenes_among
from runtime.archive.plan import Scene
from runtime.archive.stac_source import scenes_of
from runtime.archive.store import Entry, Store, StoreRefused, absolute, is_absolute, open_store, split
from sarwater.errors import UsageError
from sarwater.scenes.names import day_in

Box = tuple[float, float, float, float]
"""West, south, east, north, in degrees."""
_LISTS, _STAC = ("txt", "lst"), ("json", "geojson")
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
    root, name = split(source) if is_absolute(source) else split(f"./{source}")
    store = open_store(root)
    places: list[tuple[str, str | None]]
    if kind in _LISTS:
        places = [(place, None) for place in _listed(_text(store, name), store) if filters.keep(place)]
    else:
        found = scenes_of(store, name, _text)
        places = [(each.place, each.item) for each in found if filters.keep(each.place, each.day, each.bbox)]
    if not places:
        raise UsageError(f"{source}: {_none(filters)}")
    return store.root, list(_located(places, store, source))


def _below(source: str, filters: Filters) -> tuple[str, list[Scene]]:
    store = open_store(source)
    home, name = split(store.root)
    entries = list(store.list())
    if entries and not is_product(name, (entry.key for entry in entries)):
        found = [Scene.of(group) for group in scenes_among(entries)]
    elif home.endswith(":/"):  # a bucket
        found = []
    else:  # a scene itself, it may be
        store = open_store(home)
        found = [scene for path, scene in _listing(store, "").items() if path == name]
    kept = [scene for scene in found if filters.keep(scene.path)]
    if not kept:
        raise UsageError(f"{source}: {_none(filters) if found else _none(Filters())}")
    return store.root, kept


def _none(filters: Filters) -> str:
    if filters == Filters():
        return "no scene there; expected .tif, .h5, .SAFE and the like"
    return "no scene there is one that --name, --since, --until and --box let through; change these"


def _text(store: Store, key: str) -> str:
    body = store.read(key)
    if body is None:
        raise UsageError(f"{store.url(key)}: no such file; expected a list of scenes, or a STAC collection or items")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{store.url(key)}: not UTF-8 text; expected a list of scenes, or STAC as JSON") from None


def _listed(text: str, store: Store) -> list[str]:
    """One location a line, relative to the list or absolute; `#` begins a comment."""
    lines = [line.strip() for line in text.splitlines()]
    return [absolute(store.root, line) for line in lines if line and not line.startswith("#")]


def _located(places: Iterable[tuple[str, str | None]], store: Store, source: str) -> Iterator[Scene]:
    """Scenes with the sizes and versions of their files: each folder is listed once, each scene is there once. Paths
    below the store's root are relative to it."""
    listings: dict[str, dict[str, Scene]] = {}
    missing = []
    once: dict[str, str | None] = {}
    for place, item in places:
        once.setdefault(place.rstrip("/"), item)
    for place, item in once.items():
        if place.startswith(("http://", "https://")):
            raise UsageError(
                f"{place}: not in a store; expected s3://BUCKET/KEY or a path. Copy it into a bucket first"
            )
        inside = place.startswith(f"{store.root}/")
        path = place.removeprefix(f"{store.root}/")
        folder = path.rpartition("/")[0] if inside else split(path)[0]
        if folder not in listings:
            listings[folder] = _listing(store, folder) if inside else _listing(open_store(folder), "", f"{folder}/")
        found = listings[folder].get(path)
        if found is None:
            missing.append(path)
        else:
            yield Scene(found.path, found.files, item)
    if missing:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise StoreRefused(
            f"{source}: it names {', '.join(missing[:_NAMED])}{more}, not there as a scene; correct it, or copy them"
        )


def _listing(store: Store, prefix: str, named: str = "") -> dict[str, Scene]:
    """The scenes below `prefix` by their paths, which begin with `named`."""
    entries: list[Entry] = [entry._replace(key=named + entry.key) for entry in store.list(prefix)]
    return {group.path: Scene.of(group) for group in scenes_among(entries)}


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
