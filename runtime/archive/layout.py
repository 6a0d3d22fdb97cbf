"""Where things lie in the store that an archive's products go to.

items/KEY/ATTEMPT/...           products, invisible until an item names them
items/KEY.json                  the STAC item: the commit. KEY is the mask's key: input, model and settings
collection.json                 the STAC collection of all items, made anew at the end of a run
.sarwater/done/TOKEN            the scene of a plan is done, by this item
.sarwater/failed/TOKEN          it is set aside, and why
.sarwater/probe/...             what conditional writes were tried on
"""

from __future__ import annotations

import json
from typing import Any

from runtime.archive.store import Store

DONE, FAILED, ITEMS, PROBES = ".sarwater/done", ".sarwater/failed", "items", ".sarwater/probe"


def item_place(key: str) -> str:
    return f"{ITEMS}/{key}.json"


def item_keys(store: Store) -> list[str]:
    """Of the items that are committed."""
    keys = (entry.key for entry in store.list(ITEMS))
    return [key.removeprefix(f"{ITEMS}/").removesuffix(".json") for key in keys if key.count("/") == 1]


def json_at(store: Store, key: str) -> dict[str, Any]:
    """The JSON object at `key`; empty where there is none, or somebody damaged it."""
    try:
        found = json.loads(store.read(key) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
