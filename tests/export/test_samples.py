from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from osgeo import gdal

from export.artefacts import PROOF_SAMPLES
from export.build_engine import ENGINE_SAMPLES
from export.calibration import SCENES, TILE_PX, calibration_tiles
from export.samples import Reading, folder_pixels, labelled_samples, scene_types, simulated_samples
from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import DataError
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.labels import Coding
from train.simulator.scenery import SCENE_TYPES

SAR = (Channel("sar", "amplitude_dn"),)
gdal.UseExceptions()


def write_tiff(path: Path, pixels: npt.NDArray[np.generic], nodata: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16}[pixels.dtype.name]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), pixels.shape[1], pixels.shape[0], 1, kind)
    dataset.GetRasterBand(1).WriteArray(pixels)
    if nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(nodata)


def every_dn() -> npt.NDArray[np.int64]:
    """(150, 200) each DN from 1 on once, in no order: what changes smoothly is no backscatter."""
    return np.random.default_rng(0).permutation(150 * 200).reshape(150, 200) + 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One scene of 200 x 150 px: every pixel another DN, water above 20000, a nodata corner."""
    pixels = every_dn().astype(np.uint16)
    label = np.where(pixels > 20000, 255, 0).astype(np.uint8)
    pixels[:10, :10] = 0
    write_tiff(tmp_path / "img" / "A.tif", pixels, nodata=0)
    write_tiff(tmp_path / "mask" / "A_label.tif", label)
    return tmp_path


def test_the_tiles_of_a_scene_cover_each_valid_pixel_once(data: Path) -> None:
    tiles = labelled_samples(data, SAR, tile_px=64, limit=100)
    counted = np.concatenate([tile.pixels[0][tile.truth != NODATA] for tile in tiles])
    expected = every_dn()
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


@pytest.mark.parametrize("names", [("sar",), ("hh",), ("vv", "vh")])
def test_every_kind_of_scene_and_every_sensor_is_among_the_proof_samples(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []

    def watched(shape: tuple[int, int], mode: str, rng: np.random.Generator, kind: str) -> SimpleNamespace:
        made.append((kind, mode))
        return SimpleNamespace(amplitude=np.full(shape, 40.0), water=np.zeros(shape, np.uint8))

    monkeypatch.setattr("train.simulator.simulate.simulate_scene", watched)
    channels = tuple(Channel(name, "amplitude_dn") for name in names)
    modes = {"sar": ("k5", "s1"), "hh": ("k5",), "vv": ("s1",)}[names[0]]
    everything = sorted((kind, mode) for kind in SCENE_TYPES for mode in modes)
    assert PROOF_SAMPLES is SCENES is ENGINE_SAMPLES is None
    simulated_samples(channels, 32, PROOF_SAMPLES)
    assert sorted(made) == everything
    made.clear()
    calibration_tiles(channels)
    assert sorted(made) == everything
    made.clear()
    simulated_samples(channels, 32, len(scene_types()))
    assert [kind for kind, _ in made] == list(SCENE_TYPES)
    assert {mode for _, mode in made} == set(modes)


def test_labels_count_the_same_as_everywhere(data: Path) -> None:
    """0, 1 and 255 for what is not known, as in training and scoring."""
    values = np.zeros((150, 200), np.uint8)
    values[:, :50], values[:, 100:] = 1, 255
    write_tiff(data / "mask" / "A_label.tif", values)
    (sample,) = labelled_samples(data, SAR, 256, 4)
    assert set(np.unique(sample.truth[:150, 100:])) == {NODATA}
    assert int((sample.truth == WATER).sum()) == 150 * 50 - 100
    write_tiff(data / "mask" / "A_label.tif", np.where(values == 1, 2, 1).astype(np.uint8))
    with pytest.raises(DataError, match="label values 1, 2"):
        labelled_samples(data, SAR, 256, 4)
    (declared,) = labelled_samples(data, SAR, 256, 4, Reading(coding=Coding.parse("land=1,water=2")))
    assert int((declared.truth == WATER).sum()) == 150 * 50 - 100


def test_unit_and_nodata_can_be_said(tmp_path: Path) -> None:
    pixels = np.full((64, 64), 7, np.uint16)
    pixels[:8] = 9
    write_tiff(tmp_path / "img" / "A.tif", pixels)
    write_tiff(tmp_path / "mask" / "A_label.tif", np.zeros((64, 64), np.uint8))
    (sample,) = labelled_samples(tmp_path, SAR, 64, 1, Reading(Request(nodata=9)))
    assert set(np.unique(sample.truth[:8])) == {NODATA}
    assert set(np.unique(sample.truth[8:])) == {LAND}


def test_a_limit_spreads_over_the_scenes(data: Path) -> None:
    for name in "BCDEF":
        write_tiff(data / "img" / f"{name}.tif", np.full((64, 64), 30, np.uint16))
        write_tiff(data / "mask" / f"{name}_label.tif", np.zeros((64, 64), np.uint8))
    assert [sample.name[0] for sample in labelled_samples(data, SAR, 64, 2)] == ["A", "F"]
    assert len(folder_pixels(data, SAR, 64, 3)) <= 3


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
