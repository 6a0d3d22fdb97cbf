"""What the products of a scene say of its place, wherever that is; and that a place costs no mask."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from PIL import Image
from pystac.validation import validate_dict

import runtime.products.quicklook
from runtime.backends.fake import FakeBackend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from runtime.products.quicklook import Quicklook
from runtime.products.sheet import Layers
from sarwater.errors import OutputError
from tests.sarwater.scenes.test_ground import RPC
from tests.support.rasters import lake_scene, write_geotiff

SIZE = 64


def places() -> dict[str, dict[str, Any]]:
    both_sides = [
        gdal.GCP((179.997 + 1e-4 * x + 180) % 360 - 180, -16 - 1e-4 * y, 0, x, y) for x in (0, 32, 64) for y in (0, 64)
    ]
    return {
        "utm": {"epsg": 32601, "transform": (304_000 - 20_000, 1000, 0, 7_000_000, 0, -1000)},
        "beyond 180": {"epsg": 4326, "transform": (179.98, 0.001, 0, -16, 0, -0.001)},
        "control points": {"gcps": both_sides},
        "pole": {"epsg": 3413, "transform": (-3200, 100, 0, 3200, 0, -100)},
        "web mercator": {"epsg": 3857, "transform": (1_000_000, 10, 0, 9_000_000, 0, -10)},
        "geocentric": {"epsg": 4978, "transform": (0, 5, 0, 0, 0, -5)},
    }


def products_of(path: Path, out: Path) -> tuple[dict[str, Any], list[str]]:
    """(the STAC item, the notes of the record)."""
    staged = process_scene(path, FakeBackend(), out)
    publish(staged)
    return json.loads((out / f"{path.stem}_water.json").read_text()), staged.record["notes"]


@pytest.mark.parametrize("name", places())
def test_every_product_is_made_and_the_item_is_valid(tmp_path: Path, out: Path, name: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(SIZE, SIZE), **places()[name])
    item, _ = products_of(path, out)
    validate_dict({**item, "stac_extensions": []})
    assert len([asset for asset in item["assets"].values() if asset["href"].startswith("./")]) == 6
    assert min(Image.open(out / "a_quicklook.png").size) >= SIZE
    if name in ("utm", "beyond 180", "control points"):
        assert item["geometry"]["type"] == "MultiPolygon"
        assert item["bbox"][0] > 0 > item["bbox"][2]


def test_a_quicklook_across_the_antimeridian_shows_the_scene(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((300, 300), 100, np.uint16)
    gcps = [
        gdal.GCP((179.985 + 1e-4 * x + 180) % 360 - 180, -16 - 1e-4 * y, 0, x, y)
        for x in (0, 150, 300) for y in (0, 150, 300)
    ]  # fmt: skip
    drawn: list[Layers] = []
    monkeypatch.setattr(
        runtime.products.quicklook, "sheet_of", lambda layers, _: drawn.append(layers) or Image.new("L", (1, 1))
    )
    products_of(write_geotiff(tmp_path / "a.tif", pixels, gcps=gcps), out)
    assert len(np.unique(drawn[0].grey[10:-10, 10:280])) == 1, "one grey"
    assert np.all(drawn[0].seen[10:-10, 10:280] == 255), "no paper"


def test_rpc_are_kept_in_every_raster_and_place_the_scene(tmp_path: Path, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(SIZE, SIZE), transform=None)
    dataset = gdal.Open(str(path), gdal.GA_Update)
    dataset.SetMetadata(dict(RPC), "RPC")
    del dataset
    expected = gdal.Open(str(path)).GetMetadata("RPC")
    item, notes = products_of(path, out)
    assert notes == []
    assert item["geometry"]["type"] == "MultiPolygon"
    for name in ("water", "confidence"):
        kept = gdal.Open(str(out / f"a_{name}.tif")).GetMetadata("RPC")
        for key, text in expected.items():
            assert np.allclose(np.array(kept[key].split(), float), np.array(text.split(), float), rtol=1e-12), key
    layer = (polygons := gdal.OpenEx(str(out / "a_water.gpkg"))).GetLayer()
    assert layer.GetSpatialRef().IsGeographic()
    assert all(abs(feature.GetGeometryRef().GetEnvelope()[2] - 37) < 0.01 for feature in layer)
    assert all(feature["area_m2"] > 50 for feature in polygons.GetLayer())


@pytest.mark.parametrize("step", ["__init__", "see", "write", "finish"])
def test_a_side_product_that_fails_costs_a_note(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Invalid zone: 61")

    monkeypatch.setattr(Quicklook, step, fail)
    item, notes = products_of(write_geotiff(tmp_path / "a.tif", lake_scene(SIZE, SIZE)), out)
    assert notes == ["quicklook could not be made: Invalid zone: 61"]
    assert item["properties"]["sarwater:notes"] == notes
    assert "quicklook" not in item["assets"]
    assert sorted(path.name for path in out.iterdir()) == [
        "a_confidence.qml", "a_confidence.tif", "a_water.gpkg", "a_water.json", "a_water.qml", "a_water.tif",
    ]  # fmt: skip


def test_a_full_disk_is_no_note(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def save(self, *_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Quicklook, "sheet", lambda *_: Full())
    with pytest.raises(OutputError, match="free disk space"):
        process_scene(write_geotiff(tmp_path / "a.tif", lake_scene(SIZE, SIZE)), FakeBackend(), out)
    assert list(out.iterdir()) == []
