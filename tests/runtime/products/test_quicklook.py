from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from PIL import Image

import runtime.products.quicklook
from runtime.backends import Backend
from runtime.backends.fake import FAKE_MANIFEST, FakeBackend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from runtime.products.sheet import Caption, Layers, sheet_of
from sarwater.manifest import Channel
from sarwater.request import Request
from tests.support.deliveries import write_safe
from tests.support.rasters import lake_scene, write_geotiff


class Drawn:
    """What the quicklooks of a test are drawn of; the sheets are drawn, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
        self._out = out
        monkeypatch.setattr(runtime.products.quicklook, "sheet_of", self._record)

    def _record(self, layers: Layers, caption: Caption) -> Any:
        self.layers, self.caption = layers, caption
        return sheet_of(layers, caption)

    def of(self, path: Path, backend: Backend | None = None) -> Layers:
        publish(process_scene(path, backend or FakeBackend(), self._out, Request(products=("mask", "quicklook"))))
        assert Image.open(self._out / f"{path.stem}_quicklook.png").size >= (640, 100)
        return self.layers


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, out: Path) -> Drawn:
    return Drawn(monkeypatch, out)


def test_water_is_where_the_mask_has_it(tmp_path: Path, drawn: Drawn) -> None:
    pixels = np.full((600, 700), 100, np.uint16)
    pixels[200:400, 300:500] = 10
    layers = drawn.of(write_geotiff(tmp_path / "a.tif", pixels))
    assert np.all(layers.water[210:390, 310:490] == 255)
    assert not np.any(layers.water[:190, :700])
    assert layers.grey[300, 400] < layers.grey[100, 100]


def test_a_large_scene_is_shrunk_and_strips_meet_without_gaps(
    tmp_path: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.products.quicklook, "LONG_SIDE_PX", 100)
    pixels = np.full((1010, 930), 100, np.uint16)
    pixels[500:, :] = 10
    layers = drawn.of(write_geotiff(tmp_path / "a.tif", pixels))
    height = round(1010 / 11)
    assert np.all(layers.water[48:height, :80] == 255)
    assert not np.any(layers.water[:44, :80])
    assert len(np.unique(layers.grey[:40, :80])) == 1, "one grey: no row or column is brighter or darker than the rest"


@pytest.mark.parametrize("width", [1684, 1700, 1701, 99, 1])
def test_widths_that_no_step_divides_work(
    tmp_path: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(runtime.products.quicklook, "LONG_SIDE_PX", 100)
    drawn.of(write_geotiff(tmp_path / "a.tif", np.full((203, width), 50, np.uint16)))


def test_a_scene_of_50000_columns_is_drawn_of_a_few_thousand_pixels(tmp_path: Path, drawn: Drawn) -> None:
    layers = drawn.of(write_geotiff(tmp_path / "a.tif", np.full((64, 50_000), 50, np.uint16)))
    assert max(layers.grey.shape) <= runtime.products.quicklook.LONG_SIDE_PX
    assert np.all(layers.seen == 255)


def test_north_is_up_also_for_a_scene_taken_from_the_south(tmp_path: Path, drawn: Drawn) -> None:
    """An ascending pass: line 0 is the southern end, so water in the first lines belongs at the bottom."""
    pixels = np.full((300, 300), 100, np.uint16)
    pixels[:100] = 10
    gcps = [gdal.GCP(127 + x * 1e-4, 36 + y * 1e-4, 0, x, y) for y in (0, 150, 300) for x in (0, 150, 300)]
    water = drawn.of(write_geotiff(tmp_path / "a.tif", pixels, gcps=gcps)).water
    assert np.mean(water[-60:, :200] > 128) > 0.5
    assert not np.any(water[:60])
    assert [corner[:9] for corner in drawn.caption.corners] == ["36.0300° "] * 2 + ["36.0000° "] * 2


def test_nodata_is_not_seen(tmp_path: Path, drawn: Drawn) -> None:
    pixels = lake_scene(200, 600, lake=100)
    pixels[:, 300:] = 0
    layers = drawn.of(write_geotiff(tmp_path / "a.tif", pixels))
    assert np.all(layers.seen[:, :300] == 255)
    assert not np.any(layers.seen[:, 300:])


def test_the_caption_says_scene_sensor_time_water_and_model(tmp_path: Path, drawn: Drawn) -> None:
    pixels = np.full((200, 400), 100, np.uint16)
    pixels[:, :100] = 10
    drawn.of(write_geotiff(tmp_path / "K5_20240726091530_HH.tif", pixels))
    assert drawn.caption.title == "K5_20240726091530_HH"
    scene, water, model = drawn.caption.facts
    assert scene == "GeoTIFF   hh   2024-07-26T09:15:30Z   1.25 m pixels"
    assert water == "water 0.0309 km2, 24.8 %"
    assert model.startswith(f"{FAKE_MANIFEST.name} fp32 ")


def test_a_sentinel1_scene_has_a_scale_and_corners(tmp_path: Path, drawn: Drawn) -> None:
    drawn.of(write_safe(tmp_path / "a.SAFE", {"vv": lake_scene(300, 300)}))
    assert drawn.caption.pixel_m
    assert len(drawn.caption.corners) == 4


def test_a_scene_that_lies_nowhere_has_neither(tmp_path: Path, drawn: Drawn) -> None:
    drawn.of(write_geotiff(tmp_path / "a.tif", lake_scene(300, 300), transform=None))
    assert drawn.caption.pixel_m is None
    assert drawn.caption.corners == ()


def test_backscatter_looks_the_same_in_either_scale(tmp_path: Path, drawn: Drawn) -> None:
    """Stored linear, shown as the decibels that the model wants."""
    power = (lake_scene(200, 300) / np.float32(400)) ** 2
    backend = FakeBackend(replace(FAKE_MANIFEST, channels=(Channel("sar", "sigma0_db"),)))
    linear = write_geotiff(tmp_path / "linear.tif", power, descriptions=["Sigma0_VV"])
    decibels = write_geotiff(tmp_path / "db.tif", 10 * np.log10(power), descriptions=["Sigma0_VV_db"])
    first, second = (drawn.of(path, backend).grey.astype(int) for path in (linear, decibels))
    assert np.abs(first - second).max() <= 1
