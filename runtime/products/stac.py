"""The STAC item of a scene's products: what they are, where they lie, how they were made, and how long it took.

Sources: STAC 1.1.0 (https://stacspec.org) and its extensions projection 2.0.0, raster 1.1.0, file 2.1.0, processing
1.2.0, classification 2.0.0, mlm 1.4.0, sar 1.0.0 and sat 1.0.0 (https://stac-extensions.github.io).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runtime.backends.base import FinishedRows
from runtime.latency import LatencyRecord
from runtime.products.base import Making, Product
from runtime.products.catalogue import COLLECTION_ID, LINKS_OF_ITEM
from sarwater.classes import CLASSES, LAND, WATER
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, ModelManifest, sha256_of
from sarwater.regular import open_regular
from sarwater.request import Request
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.sensor import sensor_of
from sarwater.shown import shown
from sarwater.tags import INPUT_TAG, MASK_KEY_TAG, MODEL_SHA256_TAG, MODEL_TAG, VERSION_TAG

EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in (
        "projection/v2.0.0", "raster/v1.1.0", "file/v2.1.0", "processing/v1.2.0", "classification/v2.0.0", "mlm/v1.4.0",
    )
)  # fmt: skip
RADAR_EXTENSIONS = {
    prefix: f"https://stac-extensions.github.io/{prefix}/v1.0.0/schema.json" for prefix in ("sar", "sat")
}
"""Named where the scene says enough of its satellite."""
_TEXTS = (MASK_KEY_TAG, INPUT_TAG, MODEL_TAG, MODEL_SHA256_TAG, VERSION_TAG)
"""Tags that stay texts, whatever they look like."""


class StacItem(Product):
    """Made last, for it says how large the others are."""

    name = "stac"
    suffix = "_water.json"
    help = "STAC item: what was run, on what, and where the time went; JSON"
    sums_up = True

    @classmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        properties = read_item(path).get("properties", {})
        return {name.replace("sarwater:", "SARWATER_").upper(): str(value) for name, value in properties.items()}

    @classmethod
    def is_current(cls, path: Path, key: str, request: Request) -> bool:
        """Only if it lists all of the products."""
        from runtime.products import chosen

        wanted = {product.asset_name for product in chosen(request.products)} - {""}
        return super().is_current(path, key, request) and wanted <= read_item(path).get("assets", {}).keys()

    def write(self, finished: FinishedRows) -> None:
        """Nothing of single rows is in it."""

    def finish(self, making: Making) -> None:
        item = stac_item(self.path.name.removesuffix(self.suffix), self.scene, making)
        text = json.dumps(item, indent=2, ensure_ascii=False) + "\n"
        self._attempt(lambda: self.path.write_text(text, encoding="utf-8"))

    def close(self) -> None:
        """Nothing is held open."""


def read_item(path: Path) -> dict[str, Any]:
    """The item at `path`; empty where there is none."""
    try:
        with open_regular(path) as file:
            item = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return item if isinstance(item, dict) else {}


def stac_item(stem: str, scene: ModelInput, making: Making) -> dict[str, Any]:
    """A GeoJSON feature; a scene without a georeference has a null geometry and no bounding box.

    Assets are named by file name alone, so the folder can be moved.
    """
    manifest, tags, radar = making.manifest, making.tags, _radar(scene)
    assets = {product.asset_name: _asset(product) for product in making.products if product.asset_name}
    assets["model"] = {
        "href": f"urn:sha256:{tags[MODEL_SHA256_TAG]}",
        "title": f"The network that was run: {manifest.name}",
        "roles": ["mlm:model"],
        "mlm:artifact_type": "onnx" if manifest.engine is None else manifest.engine.flavor,
    }
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [*EXTENSIONS, *_radar_extensions(radar)],
        "id": stem,
        "collection": COLLECTION_ID,
        "geometry": None,
        "properties": {
            **_times(scene),
            **_projection(scene),
            **radar,
            **_model(manifest),
            "processing:level": "L3",
            "processing:lineage": "water segmentation of SAR backscatter by a neural network, in blended tiles",
            "processing:software": {"sarwater": tags[VERSION_TAG]},
            "sarwater:source_format": scene.scene.format,
            "sarwater:notes": list(making.record.notes),
            **_water(making.record),
            "sarwater:latency": making.record.to_dict(),
            **{tag.lower().replace("sarwater_", "sarwater:"): _value(tag, text) for tag, text in tags.items()},
        },
        "links": [
            *LINKS_OF_ITEM,
            {
                "rel": "derived_from",
                "href": f"urn:sha256:{tags[INPUT_TAG]}",
                "type": "application/octet-stream",
                "title": shown(scene.name),
            },
        ],
        "assets": assets,
    }
    footprint = scene.georeference.footprint(scene.width_px, scene.height_px)
    if footprint is not None:
        item["bbox"], item["geometry"] = list(footprint.bbox), footprint.geometry
    return item


def _value(tag: str, text: str) -> str | int | float:
    """A number where the text is one, written as Python writes it: `tags_in` gives the same text back."""
    for kind in (int, float):
        try:
            if tag not in _TEXTS and str(kind(text)) == text and math.isfinite(kind(text)):
                return kind(text)
        except ValueError:
            continue
    return text


def _water(record: LatencyRecord) -> dict[str, Any]:
    """How much of what was measured is water."""
    measured_px = (record.land_px or 0) + (record.water_px or 0) + (record.shadow_px or 0)
    percent = round(100 * (record.water_px or 0) / measured_px, 4) if measured_px else None
    return {"sarwater:water_km2": record.water_km2, "sarwater:water_percent": percent}


def _radar(scene: ModelInput) -> dict[str, Any]:
    """What is known of the satellite. The SAR extension wants mode and type of product, or nothing of its own."""
    sensor = sensor_of(scene.name, scene.scene.format)
    if sensor is None:
        return {}
    polarisations = [band.polarisation.upper() for band in scene.bands if band.polarisation]
    found: dict[str, Any] = {"platform": sensor.platform, "constellation": sensor.constellation}
    if sensor.mode and sensor.product_type and polarisations:
        found |= {
            "sar:instrument_mode": sensor.mode,
            "sar:frequency_band": sensor.frequency_band,
            "sar:center_frequency": sensor.centre_frequency_ghz,
            "sar:polarizations": polarisations,
            "sar:product_type": sensor.product_type,
        }
    orbit = {
        "sat:orbit_state": sensor.orbit_state,
        "sat:absolute_orbit": sensor.absolute_orbit,
        "sat:relative_orbit": sensor.relative_orbit,
    }
    return found | {name: value for name, value in orbit.items() if value is not None}


def _radar_extensions(radar: Mapping[str, Any]) -> list[str]:
    return [url for prefix, url in RADAR_EXTENSIONS.items() if any(name.startswith(f"{prefix}:") for name in radar)]


def _times(scene: ModelInput) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    # STAC wants a time: where the product names none, that of processing stands in, and says so.
    acquired = scene.scene.acquired
    return {
        "datetime": acquired or now,
        "sarwater:datetime_is": "acquisition" if acquired else "processing",
        "created": now,
    }


def _projection(scene: ModelInput) -> dict[str, Any]:
    georeference = scene.georeference
    properties: dict[str, Any] = {"proj:shape": [scene.height_px, scene.width_px], "proj:code": None}
    if georeference.geotransform:
        x, dx, rx, y, ry, dy = georeference.geotransform
        properties["proj:transform"] = [dx, rx, x, ry, dy, y]
        if georeference.epsg is not None:
            properties["proj:code"] = f"EPSG:{georeference.epsg}"
        elif georeference.wkt2 is not None:
            properties["proj:wkt2"] = georeference.wkt2
    return properties


def _model(manifest: ModelManifest) -> dict[str, Any]:
    tile_px = manifest.tile_px
    channels = [channel.name for channel in manifest.channels]
    return {
        "mlm:name": manifest.name,
        "mlm:architecture": manifest.family,
        "mlm:framework": "ONNX" if manifest.engine is None else "TensorRT",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:input": [
            {
                "name": INPUT_NAME,
                "bands": channels,
                "description": ", ".join(f"{channel.name} in {channel.unit}" for channel in manifest.channels),
                "input": {
                    "shape": [-1, len(channels), tile_px, tile_px],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "float32",
                },
            }
        ],
        "mlm:output": [
            {
                "name": OUTPUT_NAME,
                "tasks": ["semantic-segmentation"],
                "result": {
                    "shape": [-1, 1, tile_px, tile_px],
                    "dim_order": ["batch", "channel", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": [{"value": value, "name": CLASSES[value]} for value in (LAND, WATER)],
            }
        ],
    }


def _asset(product: Product) -> dict[str, Any]:
    return {
        "href": f"./{product.path.name}",
        **product.asset,
        "file:size": product.path.stat().st_size,
        # A multihash: 0x12 is sha2-256, 0x20 its 32 bytes.
        "file:checksum": "1220" + sha256_of(product.path),
    }
