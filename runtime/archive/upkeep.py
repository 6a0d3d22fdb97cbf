"""Looking after an archive's products: `verify` reads all of them back, `forget` lets faulty ones be made again, and
`gc` removes what dead attempts left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from runtime.archive.archive import Archive
from runtime.archive.layout import DONE, ITEMS, PROBES, item_place, json_at
from runtime.archive.store import SceneChanged, Store
from runtime.archive.work import LONGEST_ATTEMPT_S
from runtime.products.publish import mask_key_of
from sarwater.manifest import sha256_of
from sarwater.tags import MASK_KEY_TAG

DEAD_AFTER_S = 2 * LONGEST_ATTEMPT_S
"""Age of what no item names from which its attempt cannot be alive."""
_AT_A_TIME = 4
_SHA256 = "1220"
"""What a multihash of that kind begins with."""


class Fault(NamedTuple):
    """Something that is not as it was committed."""

    scene: str
    what: str
    done: str
    """The record in the store that says the scene is done."""


def verify(archive: Archive, progress: Callable[[int, int], None] | None = None) -> Iterator[Fault]:
    """Read every product of every scene that is done back, against its item: there, of its size and sha256, the mask of
    the item's key. Raises StoreError, StoreRefused."""
    done = [entry.key for entry in archive.store.list(DONE) if entry.key.rpartition("/")[2] in archive.tokens]
    with tempfile.TemporaryDirectory(prefix="sarwater-verify-") as folder, ThreadPoolExecutor(_AT_A_TIME) as pool:
        checks = pool.map(lambda key: list(_faults(archive.store, key, Path(folder))), done)
        for number, faults in enumerate(checks, 1):
            if progress:
                progress(number, len(done))
            yield from faults


def _faults(store: Store, done: str, folder: Path) -> Iterator[Fault]:
    record = json_at(store, done)
    scene, place = record.get("scene", done), record.get("item", "")
    item = json_at(store, place) if place else {}
    if not item:
        yield Fault(scene, f"{store.url(place or done)}: its item is missing or no JSON", done)
        return
    key = place.rpartition("/")[2].removesuffix(".json")
    if _property(item, MASK_KEY_TAG) != key:
        yield Fault(scene, f"{store.url(place)}: is the item of another mask, {_property(item, MASK_KEY_TAG)}", done)
    assets = _assets(item)
    if not any(asset["href"].endswith("_water.tif") for asset in assets):
        yield Fault(scene, f"{store.url(place)}: names no mask", done)
    for asset in assets:
        yield from (Fault(scene, what, done) for what in _asset_faults(store, asset, key, folder))


def _asset_faults(store: Store, asset: dict[str, Any], key: str, folder: Path) -> Iterator[str]:
    place = f"{ITEMS}/{asset['href'][2:]}"
    copy = folder / place.replace("/", "_")
    try:
        store.download(place, copy)
        if copy.stat().st_size != asset.get("file:size"):
            yield f"{store.url(place)}: {copy.stat().st_size:,} bytes, its item says {asset.get('file:size')}"
        elif _SHA256 + sha256_of(copy) != asset.get("file:checksum"):
            yield f"{store.url(place)}: its sha256 is not the one in its item"
        elif place.endswith("_water.tif") and mask_key_of(copy) != key:
            yield f"{store.url(place)}: is the mask of another key, {mask_key_of(copy)}"
    except SceneChanged:
        yield f"{store.url(place)}: is missing"
    finally:
        copy.unlink(missing_ok=True)


def _assets(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that lie in the archive, by `./KEY/ATTEMPT/NAME`; none where somebody damaged the item."""
    assets = item.get("assets")
    found = [asset for asset in assets.values() if isinstance(asset, dict)] if isinstance(assets, dict) else []
    return [asset for asset in found if str(asset.get("href")).startswith("./") and asset["href"].count("/") > 2]


def forget(store: Store, faults: Iterable[Fault]) -> list[str]:
    """Remove the items and records of these scenes, so that the next run makes them again beside what is there; returns
    the scenes. Nobody may be reading them."""
    scenes: dict[str, str] = {}
    for fault in faults:
        if fault.done not in scenes:
            scenes[fault.done] = fault.scene
            place = json_at(store, fault.done).get("item")
            store.delete([*([place] if place else []), fault.done])
    return list(scenes.values())


def _property(item: dict[str, Any], tag: str) -> Any:
    properties = item.get("properties")
    return (properties if isinstance(properties, dict) else {}).get(tag.lower().replace("sarwater_", "sarwater:"))


def collect_garbage(store: Store, older_than_s: float = DEAD_AFTER_S) -> list[str]:
    """Remove what attempts uploaded that no item names, and uploads in parts that never ended, where they are older by
    the store's own clock; returns their keys.

    Nothing that is committed is touched. With a lower age, nobody may be working.
    """
    now_s = _clock_s(store)
    orphans: list[str] = []
    for key, attempts in _attempts(store):
        old = [(folder, keys) for folder, (keys, newest_s) in attempts.items() if newest_s <= now_s - older_than_s]
        if not old:
            continue
        item = json_at(store, item_place(key))
        named = {asset["href"].split("/")[2] for asset in _assets(item)}
        if not named and store.read(item_place(key)) is not None:
            continue  # committed, and damaged since: `verify` tells
        orphans += [each for folder, keys in old if folder not in named for each in keys]
    store.delete(orphans)
    store.abort_uploads(ITEMS, now_s - older_than_s)
    return orphans


def _attempts(store: Store) -> Iterator[tuple[str, dict[str, tuple[list[str], float]]]]:
    """(mask key, attempt -> its objects and the time of the newest) of all that lies below `items/KEY/`."""
    last = ""
    attempts: dict[str, tuple[list[str], float]] = {}
    for entry in store.list(ITEMS):
        parts = entry.key.split("/")
        if len(parts) < 4:
            continue
        if parts[1] != last:
            if attempts:
                yield last, attempts
            last, attempts = parts[1], {}
        keys, newest_s = attempts.get(parts[2], ([], 0.0))
        attempts[parts[2]] = ([*keys, entry.key], max(newest_s, entry.modified_s))
    if attempts:
        yield last, attempts


def _clock_s(store: Store) -> float:
    """What time it is for the store: that of an object written now."""
    key = f"{PROBES}/clock-{time.monotonic_ns():x}"
    store.write(key, b"")
    try:
        return next((entry.modified_s for entry in store.list(PROBES) if entry.key == key), 0.0)
    finally:
        store.delete([key])
