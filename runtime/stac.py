"""The STAC item of a scene's products: what they are, where they lie, how they were made, and how long it took.

Sources: STAC 1.0.0 (https://stacspec.org) and the extensions projection 1.1.0, raster 1.1.0, file 2.1.0 and
processing 1.2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runtime.latency import LatencyRecord
from runtime.scene import Scene
from sarwater.manifest import sha256_of
from sarwater.metrics import NODATA

EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v1.1.0", "raster/v1.1.0", "file/v2.1.0", "processing/v1.2.0")
)
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def stac_item(
    stem: str, scene: Scene, files: Mapping[str, Path], tags: Mapping[str, str], record: LatencyRecord
) -> dict[str, Any]:
    """A GeoJSON feature; a scene without a georeference has a null geometry and no bounding box.

    `files`: asset name -> finished file; assets are named by file name alone, so the folder can be moved.
    """
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS),
        "id": stem,
        "geometry": None,
        "properties": _properties(scene, tags, record),
        "links": [],
        "assets": {name: _asset(name, path) for name, path in files.items()},
    }
    corners = scene.georeference.footprint(scene.width_px, scene.height_px)
    if corners:
        longitudes, latitudes = zip(*corners, strict=True)
        item["bbox"] = [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
        item["geometry"] = {"type": "Polygon", "coordinates": [[list(corner) for corner in (*corners, corners[0])]]}
    return item


def _properties(scene: Scene, tags: Mapping[str, str], record: LatencyRecord) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    georeference = scene.georeference
    properties: dict[str, Any] = {
        # STAC wants a time: where the product names none, that of processing stands in, and says so.
        "datetime": scene.product.acquired or now,
        "sarwater:datetime_is": "acquisition" if scene.product.acquired else "processing",
        "created": now,
        "proj:epsg": georeference.epsg,
        "proj:shape": [scene.height_px, scene.width_px],
        "processing:software": {"sarwater": tags["SARWATER_VERSION"]},
        "sarwater:source_format": scene.product.format,
        "sarwater:latency": record.to_dict(),
        **{tag.lower().replace("sarwater_", "sarwater:"): text for tag, text in tags.items()},
    }
    if georeference.geotransform:
        x, dx, rx, y, ry, dy = georeference.geotransform
        properties["proj:transform"] = [dx, rx, x, ry, dy, y]
        if georeference.epsg is None and georeference.crs_wkt:
            properties["proj:wkt2"] = georeference.crs_wkt
    return properties


def _asset(name: str, path: Path) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": f"./{path.name}",
        "type": COG,
        "roles": ["data"],
        "title": "Water mask",
        "file:size": path.stat().st_size,
        # A multihash: 0x12 = sha2-256, 0x20 = 32 bytes.
        "file:checksum": "1220" + sha256_of(path),
    }
    if name == "water":
        asset["raster:bands"] = [{"data_type": "uint8", "nodata": NODATA}]
        asset["file:values"] = [
            {"values": [0], "summary": "land"},
            {"values": [1], "summary": "water"},
            {"values": [NODATA], "summary": "no data"},
        ]
    return asset
