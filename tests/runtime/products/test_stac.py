from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest
from pystac.validation import validate_dict

from runtime.backends import Backend
from runtime.pipeline import process_scene
from runtime.products import PRODUCTS
from runtime.products.publish import publish
from runtime.products.stac import EXTENSIONS, RADAR_EXTENSIONS, StacItem
from sarwater.request import Request
from tests.support.deliveries import write_k5_folder, write_safe
from tests.support.rasters import TRANSFORM, UTM_52N, lake_scene, write_geotiff

SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.json"))
"""Condensed from the extensions' specifications: only the fields that are written here, and those strictly."""


def item_of(path: Path, backend: Backend, out: Path) -> dict[str, Any]:
    publish(process_scene(path, backend, out))
    document: dict[str, Any] = json.loads((out / f"{path.stem}_water.json").read_text())
    return document


@pytest.fixture(params=["projected", "control points", "no georeference"])
def item(request: pytest.FixtureRequest, tmp_path: Path, backend: Backend, out: Path) -> dict[str, Any]:
    pixels = lake_scene(90, 100)
    if request.param == "control points":
        return item_of(write_safe(tmp_path / "a.SAFE", {"vv": pixels}), backend, out)
    transform = TRANSFORM if request.param == "projected" else None
    return item_of(write_geotiff(tmp_path / "a.tif", pixels, transform=transform), backend, out)


def test_the_item_is_valid_stac(item: dict[str, Any]) -> None:
    validate_dict({**item, "stac_extensions": []})  # the core, by the schemas that pystac brings


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.stem)
def test_the_item_keeps_to_its_extensions(item: dict[str, Any], schema: Path) -> None:
    rules = json.loads(schema.read_text())
    if rules["$id"] in item["stac_extensions"] or rules["$id"] in EXTENSIONS:
        jsonschema.validate(item, rules)


def test_every_extension_named_has_a_schema_here() -> None:
    assert {json.loads(path.read_text())["$id"] for path in SCHEMAS} == {*EXTENSIONS, *RADAR_EXTENSIONS.values()}


def test_a_kompsat5_item_tells_radar_and_orbit(tmp_path: Path, backend: Backend, out: Path) -> None:
    item = item_of(
        write_k5_folder(tmp_path / "K5_20240726091530_000000_12345_D_ES19_HH_GTC_B_L1D", lake_scene(90, 100)),
        backend,
        out,
    )
    properties = item["properties"]
    assert properties["platform"] == "kompsat-5"
    assert properties["sar:polarizations"] == ["HH"]
    assert (properties["sar:instrument_mode"], properties["sar:product_type"]) == ("ES", "GTC")
    assert (properties["sat:orbit_state"], properties["sat:absolute_orbit"]) == ("descending", 12345)
    for schema in SCHEMAS:
        jsonschema.validate(item, json.loads(schema.read_text()))


def test_the_mask_asset_names_its_classes(item: dict[str, Any]) -> None:
    classes = item["assets"]["water"]["classification:classes"]
    assert {entry["value"]: entry["name"] for entry in classes} == {
        0: "land", 1: "water", 2: "radar-shadow-or-layover", 255: "no-data",
    }  # fmt: skip
    assert [entry["value"] for entry in classes if entry["nodata"]] == [255]


def test_numbers_are_numbers_and_hashes_are_texts(tmp_path: Path, backend: Backend, out: Path) -> None:
    request = Request(threshold=0.4, sieve_px=25)
    publish(process_scene(write_geotiff(tmp_path / "a.tif", lake_scene(90, 100)), backend, out, request))
    properties = json.loads((out / "a_water.json").read_text())["properties"]
    assert (properties["sarwater:threshold"], properties["sarwater:sieve_px"]) == (0.4, 25)
    assert 0 < properties["sarwater:water_percent"] < 100
    assert properties["sarwater:water_km2"] > 0
    key = properties["sarwater:mask_key"]
    assert isinstance(key, str)
    assert StacItem.is_current(out / "a_water.json", key, request)


def test_the_item_names_what_it_was_made_of(item: dict[str, Any]) -> None:
    (origin,) = (link for link in item["links"] if link["rel"] == "derived_from")
    assert origin["href"] == f"urn:sha256:{item['properties']['sarwater:input_sha256']}"
    assert origin["title"].startswith("a.")


def test_every_asset_is_there_with_its_size_and_checksum(item: dict[str, Any], out: Path) -> None:
    files = {name: asset for name, asset in item["assets"].items() if asset["href"].startswith("./")}
    assert set(files) == {product.asset_name for product in PRODUCTS} - {""}
    for asset in files.values():
        data = (out / asset["href"]).read_bytes()
        assert asset["file:size"] == len(data)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()


def test_the_place_and_the_model_are_told(tmp_path: Path, backend: Backend, out: Path) -> None:
    item = pystac.Item.from_dict(item_of(write_geotiff(tmp_path / "a.tif", lake_scene(90, 100)), backend, out))
    assert item.properties["proj:code"] == f"EPSG:{UTM_52N}"
    assert item.properties["proj:shape"] == [90, 100]
    assert item.properties["proj:transform"] == [1.25, 0, 300000, 0, -1.25, 4100000]
    assert item.bbox == pytest.approx([126.752, 37.022, 126.753, 37.023], abs=2e-3)
    assert item.assets["model"].href == f"urn:sha256:{backend.model_sha256}"


def test_the_item_holds_the_latency_record(item: dict[str, Any]) -> None:
    record = item["properties"]["sarwater:latency"]
    assert record["backend"] == "openvino"
    assert record["tiles"] > 0
    assert set(record["moments"]) >= {"validated", "first_tile", "last_tile", "written"}


def test_a_scene_without_georeference_says_so(tmp_path: Path, backend: Backend, out: Path) -> None:
    item = item_of(write_geotiff(tmp_path / "a.tif", lake_scene(80, 90), transform=None), backend, out)
    assert "no georeference" in item["properties"]["sarwater:notes"][0]
    assert item["geometry"] is None
