"""STAC of an archive: what a scene's item becomes in it, and the collection of them all.

    collection.json           made anew at the end of every run; everything in it is in the items, too
    items/KEY.json            one item, never changed

Source: STAC 1.1.0, https://stacspec.org, and its best practices for static catalogues.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runtime.archive.layout import item_place, json_at
from runtime.archive.store import Store
from runtime.products.catalogue import COLLECTION, COLLECTION_ID, collection_of, extent_of

_AT_A_TIME = 16


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
            {"rel": "derived_from", "href": derived_from, "type": _type_of(derived_from)},
        ],
        "assets": assets,
    }


def _type_of(place: str) -> str:
    """Of a scene, or of the item that names it. Every link has a type: in a table of items (GeoParquet) it is a column,
    where one that lacks it would be null, which is no valid STAC."""
    return "application/geo+json" if place.endswith(("json", "geojson")) else "application/octet-stream"


def write_collection(store: Store, keys: Iterable[str]) -> int:
    """Write the collection of the items `items/KEY.json` of these keys, and return how many there are. Those that it
    has already are not read again."""
    old = json_at(store, COLLECTION)
    there = {f"./{item_place(key)}" for key in keys}
    linked = {link["href"]: link for link in old.get("links", ()) if link["rel"] == "item"}
    if linked.keys() - there:
        linked = {}  # the extent of those that are gone cannot be taken away
    fresh = sorted(there - linked.keys())
    boxes, times = extent_of(old) if linked else ([], [])
    with ThreadPoolExecutor(_AT_A_TIME, "items") as pool:
        for href, item in zip(fresh, pool.map(lambda href: json_at(store, href[2:]), fresh), strict=True):
            if item.get("type") != "Feature" or not {"id", "properties"} <= item.keys():
                continue  # somebody damaged it: `verify` tells
            linked[href] = {"rel": "item", "href": href, "type": "application/geo+json", "title": item["id"]}
            boxes += [item["bbox"]] if item.get("bbox") else []
            times += [when] if (when := item["properties"].get("datetime")) else []
    collection = collection_of([linked[href] for href in sorted(linked)], boxes, times)
    store.write(COLLECTION, json.dumps(collection, ensure_ascii=False, indent=1).encode())
    return len(linked)
