"""Classes, percentages and heights that say nothing of themselves are told by how they vary; backscatter is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from sarwater.errors import SceneNoBackscatter
from sarwater.scenes.readers import open_here
from tests.support.rasters import lake_scene, write_geotiff

SHAPE = (320, 400)


def blobs(seed: int, size_px: float = 12) -> np.ndarray:
    """Between 0 and 1, evenly spread, smooth."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), size_px)
    ranks: np.ndarray = field.ravel().argsort().argsort().reshape(SHAPE) / field.size
    return ranks


def land_cover(*codes: int) -> np.ndarray:
    return np.asarray(codes)[(blobs(0) * len(codes)).astype(int)]


def heights(mean_m: float, relief_m: float, noise_m: float, period_px: float = 250) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] * 2 * np.pi / period_px
    noise = np.random.default_rng(0).normal(0, noise_m, SHAPE)
    return np.asarray(mean_m + relief_m * np.sin(x) * np.cos(y) + noise)


def occurrence(steepness: float) -> np.ndarray:
    """Percent: of land 0, of lakes 100, between them the shores that come and go."""
    return np.rint(100 * np.clip((blobs(3) - 0.5) * steepness + 0.5, 0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize(
    "codes",
    [
        (10, 20, 30, 40, 50, 60, 70, 80),
        (10, 30, 80),
        (0, 20, 30, 40, 50, 60, 80, 90, 111, 112, 126, 200),
        (11, 21, 22, 31, 41, 42, 43, 52, 71, 81, 90, 95),
    ],
)
def test_land_cover_is_a_map_of_classes_whatever_its_codes(tmp_path: Path, codes: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(SceneNoBackscatter, match=f"{codes[0]}, {codes[1]}.* in patches.*give the file"):
        open_here(write_geotiff(tmp_path / "a.tif", land_cover(*codes).astype(dtype)))


@pytest.mark.parametrize(
    "pixels", [heights(40, 30, 0.5), heights(40, 30, 0.5, 120), heights(300, 250, 2), heights(1500, 90, 0)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_heights_in_low_and_in_steep_country_are_no_backscatter(
    tmp_path: Path, pixels: np.ndarray, dtype: type
) -> None:
    with pytest.raises(SceneNoBackscatter, match="as smoothly as heights"):
        open_here(write_geotiff(tmp_path / "a.tif", pixels.astype(dtype)))


@pytest.mark.parametrize("pixels", [heights(-400, 30, 0.3), heights(-2000, 900, 3), heights(-5, 2, 0.02)])
@pytest.mark.parametrize("nodata", [None, -9999])
def test_heights_below_the_sea_are_no_decibels(tmp_path: Path, pixels: np.ndarray, nodata: int | None) -> None:
    pixels = pixels.astype(np.float32)
    pixels[:30] = pixels.min() if nodata is None else nodata
    with pytest.raises(SceneNoBackscatter, match="as smoothly as heights"):
        open_here(write_geotiff(tmp_path / "a.tif", pixels, nodata=nodata))


def test_decibels_of_many_looks_are_no_heights(tmp_path: Path) -> None:
    power = 0.1 * np.random.default_rng(0).gamma(100, 1 / 100, SHAPE)
    open_here(write_geotiff(tmp_path / "a.tif", (10 * np.log10(power)).astype(np.float32))).close()


@pytest.mark.parametrize("steepness", [1.2, 4, 20])
@pytest.mark.parametrize("nodata", [None, 255])
def test_how_often_water_was_seen_is_no_backscatter(tmp_path: Path, steepness: float, nodata: int | None) -> None:
    pixels = occurrence(steepness).astype(np.uint8)
    pixels[:20] = 0 if nodata is None else nodata
    with pytest.raises(SceneNoBackscatter, match="percentages"):
        open_here(write_geotiff(tmp_path / "a.tif", pixels, nodata=nodata))


def test_percentages_of_few_values_are_no_backscatter(tmp_path: Path) -> None:
    seen = np.where(blobs(3) > 0.5, np.random.default_rng(0).integers(95, 101, SHAPE), 0).astype(np.uint8)
    with pytest.raises(SceneNoBackscatter, match="percentages"):
        open_here(write_geotiff(tmp_path / "a.tif", seen))


def test_days_of_acquisition_are_no_backscatter(tmp_path: Path) -> None:
    days = land_cover(1000, 1012, 1024, 1036).astype(np.uint16)
    with pytest.raises(SceneNoBackscatter, match=r"1000, 1012.*in patches"):
        open_here(write_geotiff(tmp_path / "a.tif", days))


@pytest.mark.parametrize("description", ["", "VV"])
def test_a_mask_is_none_whatever_its_band_is_called(tmp_path: Path, description: str) -> None:
    mask = (blobs(3) > 0.5).astype(np.uint8)
    with pytest.raises(SceneNoBackscatter, match="0, 1 in patches"):
        open_here(write_geotiff(tmp_path / "a.tif", mask, descriptions=[description]))


@pytest.mark.parametrize("largest", [np.pi, 1.0])
def test_phases_and_indices_around_0_are_no_backscatter(tmp_path: Path, largest: float) -> None:
    pixels = np.random.default_rng(0).uniform(-largest, largest, SHAPE).astype(np.float32)
    with pytest.raises(SceneNoBackscatter, match="a phase or an index"):
        open_here(write_geotiff(tmp_path / "a.tif", pixels))


@pytest.mark.parametrize("looks", [4, 30])
def test_a_dark_sea_in_bytes_with_a_port_that_is_saturated_is_read(tmp_path: Path, looks: int) -> None:
    rng = np.random.default_rng(looks)
    power = np.where(blobs(1) < 0.95, 0.004, 2.0) * rng.gamma(looks, 1 / looks, SHAPE)
    pixels = np.clip(np.sqrt(power) * 250, 0, 255).astype(np.uint8)
    pixels[:40] = 0
    with open_here(write_geotiff(tmp_path / "a.tif", pixels)):
        pass


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("looks", [1, 4, 30, 100])
@pytest.mark.parametrize("brightest", [90, 250])
def test_backscatter_of_one_and_of_many_looks_is_read(tmp_path: Path, dtype: type, looks: int, brightest: int) -> None:
    rng = np.random.default_rng(looks)
    power = np.where(blobs(1) < 0.3, 0.01, 0.2) * (0.5 + blobs(2)) * rng.gamma(looks, 1 / looks, SHAPE)
    amplitude = np.clip(np.sqrt(power) * brightest / 0.6, 0, brightest)
    with open_here(write_geotiff(tmp_path / "a.tif", amplitude.astype(dtype))) as scene:
        assert scene.bands[0].unit in ("amplitude_dn", "unknown")


@pytest.mark.parametrize("factor", [2, 3])
def test_backscatter_that_was_enlarged_is_read(tmp_path: Path, factor: int) -> None:
    pixels = ndimage.zoom(lake_scene(200, 200).astype(np.float32), factor, order=1)
    with open_here(write_geotiff(tmp_path / "a.tif", pixels)):
        pass


def test_ships_on_a_sea_that_was_clipped_to_0_are_no_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.zeros(SHAPE, np.uint8)
    for y, x in rng.integers(0, 300, (40, 2)):
        pixels[y : y + 3, x : x + 6] = rng.integers(4, 25, (3, 6)) * 10
    with open_here(write_geotiff(tmp_path / "a.tif", pixels, nodata=255)):
        pass
