"""The message: a GeoJSON feature in the manner of the WIS2 notification message, with link and hash of each product.

Source: https://wmo-im.github.io/wis2-notification-message (1.0). What is ours begins with `sarwater:`.
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.products import PRODUCTS
from runtime.products.stac import StacItem, read_item

CONFORMS_TO = "http://wis.wmo.int/spec/wnm/1/conf/core"


def notification(body: Mapping[str, Any], outgoing: Path, links: str) -> dict[str, Any]:
    """JSON values. `body` is what the ledger noted of the event; what lies in `outgoing` by now is described as it is.

    A product that is gone has no link. Raises OSError for one that cannot be read.
    """
    names = [name for name in body.get("products", ()) if (outgoing / name).is_file()]
    item = next((read_item(outgoing / name) for name in names if name.endswith(StacItem.suffix)), {})
    found = item.get("properties", {})
    described = [_link(outgoing / name, links) for name in sorted(names, key=_mask_first)]
    document: dict[str, Any] = {
        "id": body["id"],
        "conformsTo": [CONFORMS_TO],
        "type": "Feature",
        "geometry": item.get("geometry"),
        "properties": {
            "pubtime": _zulu(body["time_utc"]),
            "data_id": f"sarwater/{body.get('mask_key') or body['id']}",
            "datetime": found.get("datetime") if found.get("sarwater:datetime_is") == "acquisition" else None,
            "sarwater:event": body["event"],
            "sarwater:host": socket.gethostname(),
            **{f"sarwater:{name}": body.get(name) for name in ("job", "scene", "reason", "message", "mask_key")},
            "sarwater:water_km2": found.get("sarwater:latency", {}).get("water_km2"),
        },
        "links": described,
    }
    if described:
        document["properties"]["integrity"] = described[0]["integrity"]
    return document


def _link(path: Path, links: str) -> dict[str, Any]:
    """The mask is what the message is about: the others belong to it."""
    kind = next((kind for kind in PRODUCTS if path.name.endswith(kind.suffix)), None)
    address = f"{links.rstrip('/')}/{quote(path.name)}" if links else path.absolute().as_uri()
    with path.open("rb") as file:
        digest = hashlib.sha512()
        while block := file.read(1 << 20):
            digest.update(block)
    return {
        "rel": "canonical" if kind is PRODUCTS[0] else "item" if kind is StacItem else "related",
        "href": address,
        "type": kind.asset.get("type", "application/octet-stream") if kind else "application/octet-stream",
        "length": path.stat().st_size,
        "integrity": {"method": "sha512", "value": base64.b64encode(digest.digest()).decode()},
    }


def _mask_first(name: str) -> bool:
    return not name.endswith(PRODUCTS[0].suffix)


def _zulu(utc: str) -> str:
    moment = datetime.fromisoformat(utc).astimezone(timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
