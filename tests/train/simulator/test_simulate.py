from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from sarwater.errors import OutputError, UsageError
from sarwater.scenes.labels import find_files
from train.data.labelled import find_labelled
from train.data.split import check_apart, split_sources
from train.simulator.radar import SENSORS, illumination
from train.simulator.scenery import SCENE_TYPES
from train.simulator.simulate import averaged, main, simulate_scene
from train.simulator.terrain import Terrain, gullies, scarps

gdal.UseExceptions()

K5_TYPES = ("coast", "lakes", "reservoir", "river")
PERCENTILES = (5, 50, 95)
K5_WATER_DN = (1.75, 14.0, 77.0)
K5_LAND_DN = (6.0, 53.5, 197.0)
"""Means over the four published KOMPSAT-5 tiles of their percentiles of amplitude."""


def make(folder: Path, *options: str) -> Path:
    assert main(["--out", str(folder), "--size", "64", *options]) == 0
    return folder


def pixels(path: Path) -> np.ndarray:
    return gdal.Open(str(path)).ReadAsArray()


def levels_dn(amplitude: np.ndarray, water: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    valid = amplitude > 0
    return tuple(np.percentile(amplitude[valid & (water == value)], PERCENTILES) for value in (1, 0))


@pytest.mark.parametrize("mode", SENSORS)
@pytest.mark.parametrize("scene_type", SCENE_TYPES)
def test_every_scene_type_yields_dn_and_labels_of_its_size(scene_type: str, mode: str) -> None:
    scene = simulate_scene((64, 160), mode, np.random.default_rng(3), scene_type)
    assert scene.amplitude.shape == scene.water.shape == scene.incidence.shape == (64, 160)
    assert (scene.amplitude.dtype, scene.water.dtype, scene.incidence.dtype) == (np.uint16, np.uint8, np.uint8)
    assert set(np.unique(scene.water)) <= {0, 1}
    assert not scene.water[scene.amplitude == 0].any()
    assert (scene.scene_type, scene.pixel_m) == (scene_type, SENSORS[mode].pixel_m)
    assert scene.description


def test_the_generator_alone_decides_the_scene() -> None:
    first, again, other = (simulate_scene((96, 96), "k5", np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.amplitude, again.amplitude)
    assert np.array_equal(first.water, again.water)
    assert not np.array_equal(first.amplitude, other.amplitude)


def test_a_dry_scene_has_no_water_and_open_water_little_else() -> None:
    shares = {
        scene_type: [simulate_scene((96, 96), "s1", np.random.default_rng(seed), scene_type) for seed in range(5)]
        for scene_type in ("dry", "open-water")
    }
    assert not any(scene.water.any() for scene in shares["dry"])
    assert all(scene.water[scene.amplitude > 0].mean() > 0.85 for scene in shares["open-water"])


def test_the_pixel_spacing_can_be_chosen() -> None:
    assert simulate_scene((64, 64), "s1", np.random.default_rng(1), "airport", pixel_m=30.0).pixel_m == 30.0


def test_averaged_pixels_are_means_of_the_valid_ones_and_water_where_most_of_them_is() -> None:
    scene = simulate_scene((64, 64), "k5", np.random.default_rng(1), "lakes")
    amplitude, water = scene.amplitude.copy(), np.zeros((64, 64), np.uint8)
    amplitude[:4, :8] = 0
    amplitude[0, 4:8] = amplitude[1, 4:8] = (10, 20, 30, 40)
    water[4:6, :4] = water[4:8, 4:6] = water[5, 6] = 1
    water[8, :3] = 1
    coarse = averaged(replace(scene, amplitude=amplitude, water=water), 4)
    assert coarse.amplitude.shape == coarse.water.shape == coarse.incidence.shape == (16, 16)
    assert coarse.amplitude[0, :2].tolist() == [0, 25]  # half of the second is nodata
    assert coarse.amplitude[1:, 0].tolist() == [round(amplitude[r : r + 4, :4].mean()) for r in range(4, 64, 4)]
    assert coarse.water[1, :2].tolist() == [1, 1]
    assert coarse.water.sum() == 2  # three pixels of sixteen are not most of them
    assert coarse.pixel_m == 4 * scene.pixel_m


def test_the_size_of_averaged_scenes_is_that_of_the_means(tmp_path: Path) -> None:
    make(tmp_path, "--count", "2", "--average", "4")
    image = tmp_path / "img" / "SIM00001_k5.tif"
    assert pixels(image).shape == (64, 64)
    assert gdal.Open(str(image)).GetGeoTransform()[1] == pytest.approx(4 * SENSORS["k5"].pixel_m)
    with pytest.raises(UsageError, match="average = '0': Input should be greater than or equal to 1"):
        make(tmp_path, "--average", "0")


def test_some_scenes_end_at_the_edge_of_the_swath() -> None:
    scenes = [simulate_scene((64, 64), "k5", np.random.default_rng(seed), "open-water") for seed in range(40)]
    cut = [scene for scene in scenes if (scene.amplitude == 0).any()]
    assert 1 <= len(cut) <= 12


def test_water_and_land_of_k5_scenes_have_the_levels_of_the_published_tiles() -> None:
    found = []
    for index in range(24):
        rng = np.random.default_rng((1, index))
        scene = simulate_scene((256, 256), "k5", rng, K5_TYPES[index % len(K5_TYPES)])
        if scene.water.any() and not scene.water.all():
            found.append(levels_dn(scene.amplitude, scene.water))
    water_dn, land_dn = np.median(found, axis=0)
    # Calibration gain, wind and season alone spread single scenes by more than this.
    assert water_dn == pytest.approx(K5_WATER_DN, rel=0.4, abs=1)
    assert land_dn == pytest.approx(K5_LAND_DN, rel=0.4)


@pytest.mark.realdata
def test_the_published_tiles_have_the_levels_recorded_here(realdata: Path) -> None:
    tiles = [
        levels_dn(pixels(files.image), pixels(files.label) // 255) for files in find_files(str(realdata / "k5"), False)
    ]
    water_dn, land_dn = np.mean(tiles, axis=0)
    assert water_dn == pytest.approx(K5_WATER_DN, rel=0.05)
    assert land_dn == pytest.approx(K5_LAND_DN, rel=0.05)


@pytest.mark.parametrize(("mode", "spacing_m"), [("k5", 10 / 9), ("s1", 10.0)])
def test_the_command_writes_the_k5_layout_georeferenced(tmp_path: Path, mode: str, spacing_m: float) -> None:
    make(tmp_path, "--count", "2", "--mode", mode, "--size", "96x64")
    files = list(find_files(str(tmp_path), with_gim=True))
    assert [item.image.name for item in files] == [f"SIM00001_{mode}.tif", f"SIM00002_{mode}.tif"]
    assert [item.label.name for item in files] == [f"SIM00001_{mode}_label.tif", f"SIM00002_{mode}_label.tif"]
    image = gdal.Open(str(files[0].image))
    assert (image.RasterXSize, image.RasterYSize) == (96, 64)
    assert image.GetRasterBand(1).DataType == gdal.GDT_UInt16
    assert image.GetRasterBand(1).GetNoDataValue() == 0
    assert image.GetGeoTransform()[1] == pytest.approx(spacing_m)
    assert "UTM zone" in image.GetProjection()
    assert set(np.unique(pixels(files[0].label))) <= {0, 255}
    assert pixels(files[0].gim).dtype == np.uint8


def test_the_same_seed_gives_the_same_bytes_however_many_scenes_are_made(tmp_path: Path) -> None:
    few, many = make(tmp_path / "a", "--count", "2", "--seed", "4"), make(tmp_path / "b", "--count", "3", "--seed", "4")
    names = sorted(path.relative_to(few) for path in few.rglob("*.tif"))
    assert len(names) == 6
    for name in names:
        assert (few / name).read_bytes() == (many / name).read_bytes()
    assert sorted(path.name for path in few.rglob("*") if path.is_file()) == sorted(name.name for name in names)


def test_two_simulations_share_no_ground_so_both_can_be_split_by_region(tmp_path: Path) -> None:
    folders = [make(tmp_path / mode, "--count", "5", "--mode", mode) for mode in SENSORS]
    splits = split_sources([find_labelled(str(folder)) for folder in folders], ["20%"])
    check_apart(splits)
    assert [(len(split.training), len(split.held_out), len(split.dropped)) for split in splits] == [(4, 1, 0)] * 2


def test_the_command_says_how_much_water_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "--count", "1", "--type", "dry")
    assert capsys.readouterr().out == f"1 scenes of 64 x 64 px in {tmp_path}, 0.0% water\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "63"], "63 x 63 px, expected at least 64"),
        (["--size", "640x"], "expected PX or WIDTHxHEIGHT"),
        (["--count", "-1"], "count = '-1': Input should be greater than or equal to 1"),
        (["--seed", "-1"], "seed = '-1': Input should be greater than or equal to 0"),
        (["--type", "moon"], "scene type is 'moon', expected one of: mixed, lakes"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(tmp_path, *options)
    assert not list(tmp_path.rglob("*.tif"))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="mode is 'x', expected one of: k5, s1"):
        simulate_scene((64, 64), "x", np.random.default_rng(0))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"out/img/SIM00001_k5\.tif: cannot be written"):
        make(tmp_path / "out", "--count", "1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        make(tmp_path / "out", "--count", "1")


def test_gullies_are_dark_dry_and_narrow() -> None:
    terrain = Terrain((256, 256), 1.0, np.random.default_rng(2))
    gullies(terrain, 4)
    assert not terrain.water.any()
    assert terrain.elevation_m.min() < -1
    assert 0.01 < np.mean(terrain.elevation_m < -0.5) < 0.6


def test_scarps_are_bright_on_one_side_and_as_dark_as_water_on_the_other_and_dry() -> None:
    """As the one along the whole of WTR00004: means of 8 x 8 px down to 21 dB there, 24 on its lake, 36 on land."""
    facing_away, lit = [], []
    for seed in range(8):
        terrain = Terrain((384, 384), 10 / 9, np.random.default_rng(seed))
        scarps(terrain, 2)
        assert not terrain.water.any()
        gain = illumination(terrain.elevation_m, terrain.pixel_m, np.deg2rad(37))
        facing_away.append(np.mean(gain < 0.2))
        lit.append(np.mean(gain > 1.5))
    assert np.median(facing_away) > 0.01
    assert np.median(lit) > 0.02
    assert max(facing_away) < 0.3
