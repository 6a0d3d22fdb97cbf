from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from osgeo import gdal

from export.calibration import TILE_PX, calibration_tiles
from export.samples import folder_pixels, labelled_samples, simulated_samples
from sarwater.classes import NODATA, WATER
from sarwater.errors import DataError
from sarwater.manifest import Channel

SAR = (Channel("sar", "amplitude_dn"),)
gdal.UseExceptions()


def write_tiff(path: Path, pixels: npt.NDArray[np.generic], nodata: float | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    kind = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16}[pixels.dtype.name]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), pixels.shape[1], pixels.shape[0], 1, kind)
    dataset.GetRasterBand(1).WriteArray(pixels)
    if nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(nodata)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One scene of 200 x 150 px: every pixel another DN, water above 20000, a nodata corner."""
    pixels = np.arange(1, 150 * 200 + 1, dtype=np.uint16).reshape(150, 200)
    label = np.where(pixels > 20000, 255, 0).astype(np.uint8)
    pixels[:10, :10] = 0
    write_tiff(tmp_path / "img" / "A.tif", pixels, nodata=0)
    write_tiff(tmp_path / "mask" / "A_label.tif", label)
    return tmp_path


def test_the_tiles_of_a_scene_cover_each_valid_pixel_once(data: Path) -> None:
    tiles = labelled_samples(data, SAR, tile_px=64, limit=100)
    counted = np.concatenate([tile.pixels[0][tile.truth != NODATA] for tile in tiles])
    expected = np.arange(1, 150 * 200 + 1).reshape(150, 200)
    expected[:10, :10] = 0
    assert sorted(counted.tolist()) == sorted(expected[expected > 0].tolist())


def test_pixels_and_labels_belong_together(data: Path) -> None:
    for tile in labelled_samples(data, SAR, tile_px=64, limit=100):
        valid = tile.truth != NODATA
        assert np.array_equal(tile.truth[valid] == WATER, tile.pixels[0][valid] > 20000)


def test_a_scene_smaller_than_a_tile_is_mirrored_and_not_counted_twice(data: Path) -> None:
    (tile,) = labelled_samples(data, SAR, tile_px=256, limit=100)
    assert tile.pixels.shape == (1, 256, 256)
    assert int((tile.truth != NODATA).sum()) == 150 * 200 - 100
    assert np.array_equal(tile.pixels[0, 150], tile.pixels[0, 148])


def test_a_limit_spreads_over_the_scene(data: Path) -> None:
    names = [tile.name for tile in labelled_samples(data, SAR, tile_px=64, limit=2)]
    assert names == ["A+0+0", "A+145+96"]


def test_a_label_of_another_size_is_named(data: Path) -> None:
    write_tiff(data / "mask" / "A_label.tif", np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match=r"A_label\.tif: 10 x 10 px, expected the size of A\.tif"):
        labelled_samples(data, SAR, 64, 4)


def test_a_folder_without_scenes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scene with valid pixels"):
        folder_pixels(tmp_path, SAR, 64, 4)


def test_calibration_takes_scenes_from_a_folder(data: Path) -> None:
    tiles = calibration_tiles(SAR, data, count=4)
    assert tiles.shape == (1, 1, TILE_PX, TILE_PX)
    assert tiles.dtype == np.float32


def test_simulated_tiles_are_always_the_same() -> None:
    first, second = (simulated_samples(SAR, 64, 3, seed=7) for _ in range(2))
    for ours, theirs in zip(first, second, strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert np.array_equal(ours.truth, theirs.truth)


@pytest.mark.parametrize(
    ("unit", "low", "high"), [("amplitude_dn", 1, 65535), ("sigma0_linear", 1e-7, 1e5), ("sigma0_db", -70, 50)]
)
def test_simulated_pixels_are_in_the_unit_of_the_channel(unit: str, low: float, high: float) -> None:
    (tile,) = simulated_samples((Channel("sar", unit), Channel("gim", "incidence_dn")), 64, 1)
    assert low <= tile.pixels[0].min() <= tile.pixels[0].max() <= high
    assert tile.pixels[1].min() == 60
    assert tile.pixels[1].max() == 200


def test_calibration_shows_water_land_bright_targets_and_an_edge() -> None:
    tiles = calibration_tiles(SAR, count=8)
    medians = [float(np.median(tile[tile > 0])) for tile in tiles]
    assert len(tiles) == 8
    assert max(medians) > 4 * min(medians)  # 12 dB between water and land
    assert tiles.max() > 50 * np.median(tiles)
    assert any(0.02 < (tile == 0).mean() < 0.98 for tile in tiles)
