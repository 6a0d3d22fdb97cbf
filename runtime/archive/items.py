"""STAC of an archive: what a scene's item becomes in it, and the collection of them all.

    collection.json           made anew at the end of every run; everything in it is in the items, too
    items/KEY.json            one item, never changed

Source: STAC 1.1.0, https://stacspec.org, and its best practices for static catalogues.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runtime.archive.store import Store
from sarwater import __version__

COLLECTION = "collection.json"
COLLECTION_ID = "sarwater"
_AT_A_TIME = 16
_WORLD = [-180.0, -90.0, 180.0, 90.0]


def committed_item(item: dict[str, Any], key: str, attempt: str, derived_from: str) -> dict[str, Any]:
    """The item of `runtime.products.stac` as it lies at `items/KEY.json`, its assets below `KEY/ATTEMPT/`."""
    assets = {}
    for name, asset in item["assets"].items():
        href = asset["href"]
        moved = f"./{key}/{attempt}/{href.removeprefix('./')}" if href.startswith("./") else href
        assets[name] = {**asset, "href": moved}
    up = f"../{COLLECTION}"
    return {
        **item,
        "id": f"{item['id']}-{key[:8]}",
        "collection": COLLECTION_ID,
        "properties": {**item["properties"], "sarwater:attempt": attempt},
        "links": [
            {"rel": "root", "href": up, "type": "application/json"},
            {"rel": "parent", "href": up, "type": "application/json"},
            {"rel": "collection", "href": up, "type": "application/json"},
            {"rel": "derived_from", "href": derived_from},
        ],
        "assets": assets,
    }


def write_collection(store: Store, keys: Iterable[str]) -> int:
    """Write the collection of the items `items/KEY.json` of these keys, and return how many there are. Those that it
    has already are not read again."""
    old = json.loads(store.read(COLLECTION) or b"{}")
    linked = {link["href"]: link for link in old.get("links", ()) if link["rel"] == "item"}
    fresh = sorted({f"./items/{key}.json" for key in keys} - linked.keys())
    boxes = [*_boxes(old)]
    times = [*_times(old)]
    with ThreadPoolExecutor(_AT_A_TIME, "items") as pool:
        for href, body in zip(fresh, pool.map(lambda href: store.read(href[2:]), fresh), strict=True):
            if body is None:
                continue
            item = json.loads(body)
            linked[href] = {"rel": "item", "href": href, "type": "application/geo+json", "title": item["id"]}
            boxes += [item["bbox"]] if item.get("bbox") else []
            times.append(item["properties"]["datetime"])
    collection = _collection([linked[href] for href in sorted(linked)], boxes, times)
    store.write(COLLECTION, json.dumps(collection, ensure_ascii=False, indent=1).encode())
    return len(linked)


def _collection(links: list[dict[str, Any]], boxes: list[list[float]], times: list[str]) -> dict[str, Any]:
    west, south = (min(box[side] for box in boxes) if boxes else _WORLD[side] for side in (0, 1))
    east, north = (max(box[side] for box in boxes) if boxes else _WORLD[side] for side in (2, 3))
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": COLLECTION_ID,
        "title": "Water masks of SAR scenes",
        "description": f"Made by sarwater {__version__}: one item per scene, model and settings.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[west, south, east, north]]},
            "temporal": {"interval": [[min(times, default=None), max(times, default=None)]]},
        },
        "links": [{"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"}, *links],
    }


def _boxes(collection: Mapping[str, Any]) -> Iterable[list[float]]:
    if any(link["rel"] == "item" for link in collection.get("links", ())):
        found = collection["extent"]["spatial"]["bbox"][0]
        if found != _WORLD:
            yield found


def _times(collection: Mapping[str, Any]) -> Iterable[str]:
    if collection:
        yield from (time for time in collection["extent"]["temporal"]["interval"][0] if time)
