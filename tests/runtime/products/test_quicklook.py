from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from PIL import Image

import runtime.products.quicklook
from runtime.backends import Backend
from runtime.backends.fake import FAKE_MANIFEST, FakeBackend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from runtime.products.quicklook import round_length
from sarwater.manifest import Channel
from sarwater.request import Request
from tests.support.deliveries import write_safe
from tests.support.rasters import lake_scene, write_geotiff


def picture_of(path: Path, out: Path, backend: Backend | None = None) -> np.ndarray:
    publish(process_scene(path, backend or FakeBackend(), out, Request(products=("mask", "quicklook"))))
    return np.asarray(Image.open(out / f"{path.stem}_quicklook.png")).astype(int)


def is_blue(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 2] - pixels[..., 0] > 40).astype(bool)


def test_water_is_blue_and_land_is_grey(tmp_path: Path, out: Path) -> None:
    pixels = np.full((600, 700), 100, np.uint16)
    pixels[200:400, 300:500] = 10
    picture = picture_of(write_geotiff(tmp_path / "a.tif", pixels), out)
    assert np.all(is_blue(picture[210:390, 310:490]))
    assert not np.any(is_blue(picture[:190, :700]))


def test_a_large_scene_is_shrunk_and_strips_meet_without_gaps(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.products.quicklook, "LONG_SIDE_PX", 100)
    pixels = np.full((1010, 930), 100, np.uint16)
    pixels[500:, :] = 10
    picture = picture_of(write_geotiff(tmp_path / "a.tif", pixels), out)
    height = round(1010 / 11)
    assert np.all(is_blue(picture[48:height, :80]))
    assert not np.any(is_blue(picture[:44, :80]))
    assert len(np.unique(picture[:44, :80])) == 1, "one grey: no row or column is brighter or darker than the rest"


@pytest.mark.parametrize("width", [1684, 1700, 1701, 99, 1])
def test_widths_that_no_step_divides_work(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(runtime.products.quicklook, "LONG_SIDE_PX", 100)
    picture_of(write_geotiff(tmp_path / "a.tif", np.full((203, width), 50, np.uint16)), out)


def test_north_is_up_also_for_a_scene_taken_from_the_south(tmp_path: Path, out: Path) -> None:
    """An ascending pass: line 0 is the southern end, so water in the first lines belongs at the bottom."""
    pixels = np.full((300, 300), 100, np.uint16)
    pixels[:100] = 10
    gcps = [gdal.GCP(127 + x * 1e-4, 36 + y * 1e-4, 0, x, y) for y in (0, 150, 300) for x in (0, 150, 300)]
    picture = picture_of(write_geotiff(tmp_path / "a.tif", pixels, gcps=gcps), out)
    blue = is_blue(picture[: -runtime.products.quicklook._FOOTER_PX, :200])
    assert blue[-60:].mean() > 0.5
    assert blue[:60].mean() == 0


def test_nodata_is_left_as_paper(tmp_path: Path, out: Path) -> None:
    pixels = lake_scene(200, 600, lake=100)
    pixels[:, 300:] = 0
    picture = picture_of(write_geotiff(tmp_path / "a.tif", pixels), out)
    assert np.all(picture[10:190, 310:590] == runtime.products.quicklook._PAPER)


def test_a_sentinel1_scene_gets_a_scale_bar(tmp_path: Path, out: Path) -> None:
    with_place = picture_of(write_safe(tmp_path / "a.SAFE", {"vv": lake_scene(300, 300)}), out)
    footer = with_place[-runtime.products.quicklook._FOOTER_PX :]
    assert np.any(np.all(footer[:, -200:] == runtime.products.quicklook._INK, axis=2))


def test_backscatter_looks_the_same_in_either_scale(tmp_path: Path, out: Path) -> None:
    """Stored linear, shown as the decibels that the model wants."""
    power = (lake_scene(200, 300) / np.float32(400)) ** 2
    backend = FakeBackend(replace(FAKE_MANIFEST, channels=(Channel("sar", "sigma0_db"),)))
    linear = write_geotiff(tmp_path / "linear.tif", power, descriptions=["Sigma0_VV"])
    decibels = write_geotiff(tmp_path / "db.tif", 10 * np.log10(power), descriptions=["Sigma0_VV_db"])
    first, second = picture_of(linear, out, backend), picture_of(decibels, out, backend)
    assert np.abs(first - second)[:200, :300].max() <= 1


@pytest.mark.parametrize(("metres", "expected"), [(999, 500), (1000, 1000), (2300, 2000), (7, 5), (0.3, 0.2)])
def test_scale_bars_are_round(metres: float, expected: float) -> None:
    assert round_length(metres) == pytest.approx(expected)
