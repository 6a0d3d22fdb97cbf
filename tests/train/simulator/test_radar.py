from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from train.simulator.radar import SENSORS, illumination, multi_look, observe, single_look, suppress_noise
from train.simulator.structures import scatter
from train.simulator.terrain import Cover, Terrain

FLAT = np.ones((256, 256), np.float32)
K5_VARIATION = {25.0: 0.98, 45.0: 0.83, 70.0: 0.74, 115.0: 0.68}
"""Mean amplitude DN of 12 x 12 px blocks -> median over them of deviation / mean, of the four published tiles."""


def variation_by_level(amplitude: np.ndarray) -> dict[float, float]:
    """The same figures of (H, W) amplitudes; levels with fewer than 20 blocks are left out."""
    rows, columns = (length // 12 for length in amplitude.shape)
    blocks = amplitude[: rows * 12, : columns * 12].reshape(rows, 12, columns, 12).swapaxes(1, 2).reshape(-1, 144)
    means = blocks.mean(axis=1, dtype=np.float64)
    ratios = blocks.std(axis=1, dtype=np.float64) / means
    near = {level: np.abs(np.log(means / level)) < 0.1 for level in K5_VARIATION}
    return {level: float(np.median(ratios[where])) for level, where in near.items() if where.sum() >= 20}


def neighbour_correlation(intensity: np.ndarray) -> float:
    deviation = intensity - intensity.mean()
    return float((deviation[:, 1:] * deviation[:, :-1]).mean() / (deviation**2).mean())


def test_a_single_look_is_fully_developed_speckle() -> None:
    intensity = single_look(FLAT, None, np.random.default_rng(1))
    assert intensity.mean() == pytest.approx(1, rel=0.03)
    assert intensity.std() / intensity.mean() == pytest.approx(1, abs=0.05)  # exponential
    amplitude = np.sqrt(intensity)
    assert amplitude.std() / amplitude.mean() == pytest.approx(0.523, abs=0.02)  # Rayleigh


def test_most_multi_look_scenes_have_four_to_five_equivalent_looks() -> None:
    looks = []
    for seed in range(24):
        intensity = multi_look(FLAT, None, np.random.default_rng(seed))
        assert intensity.mean() == pytest.approx(1, rel=0.03)
        looks.append(intensity.mean() ** 2 / intensity.var())
    assert min(looks) > 3.5
    assert np.median(looks) < 5.5
    assert max(looks) > 6  # some scenes are averaged further


def test_suppressed_speckle_varies_with_its_level_as_in_the_published_tiles() -> None:
    rng = np.random.default_rng(2)
    intensity = single_look(np.geomspace(0.03, 0.5, 512, dtype=np.float32)[:, None] * FLAT.repeat(2, 0), None, rng)
    suppress_noise(intensity, -8.5)
    found = variation_by_level(np.sqrt(intensity) * SENSORS["k5"].dn_at_0_db)
    assert found == pytest.approx(K5_VARIATION, abs=0.1)
    assert neighbour_correlation(intensity) == pytest.approx(0.63, abs=0.06)


@pytest.mark.realdata
def test_the_published_tiles_vary_with_their_level_as_recorded(realdata: Path) -> None:
    tiles = [gdal.Open(str(path)).ReadAsArray() for path in sorted((realdata / "k5" / "img").glob("*.tif"))]
    assert variation_by_level(np.concatenate(tiles)) == pytest.approx(K5_VARIATION, abs=0.03)


def test_a_point_target_has_the_cross_of_sidelobes() -> None:
    target = np.zeros((65, 65), np.complex64)
    target[32, 32] = 1
    level_db = 10 * np.log10(single_look(np.full((65, 65), 1e-12, np.float32), target, np.random.default_rng(3)))
    peak_db = level_db[32, 32]
    on_axis_db, off_axis_db = level_db[32, 40:56].max() - peak_db, np.diagonal(level_db)[40:56].max() - peak_db
    assert -30 < on_axis_db < -15
    assert off_axis_db < on_axis_db - 15


def test_houses_that_stood_where_water_is_now_are_gone_but_ships_are_seen() -> None:
    amplitudes = []
    for smear_px in (0.0, 2.0):
        terrain = Terrain((64, 64), 1.0, np.random.default_rng(4))
        scatter(terrain, np.ones((64, 64), bool), per_are=1, rcs_dbsm=40, smear_px=smear_px)
        terrain.fill(np.ones((64, 64), bool))
        amplitudes.append(int(observe(terrain, SENSORS["s1"], terrain.rng).amplitude.max()))
    house, ship = amplitudes
    assert house < 500 < 5000 < ship


def ridge(height_m: float) -> np.ndarray:
    """A straight ridge across the range direction, (64, 256)."""
    return (height_m * np.maximum(0, 1 - np.abs(np.arange(256) - 100) / 20)).astype(np.float32) * np.ones(
        (64, 1), np.float32
    )


def test_a_slope_that_faces_the_radar_is_bright_and_one_that_turns_away_dark() -> None:
    gain = illumination(ridge(4), 1.0, np.deg2rad(40))
    assert (gain[:, 85:98] > 1.2).all()
    assert (gain[:, 103:118] < 0.85).all()
    assert gain[:, :78] == pytest.approx(1, abs=1e-3)


def test_a_high_ridge_casts_a_shadow_as_long_as_its_height_demands() -> None:
    gain = illumination(ridge(30), 1.0, np.deg2rad(45))
    shadow = np.flatnonzero(gain[0] < 0.01)
    # The ray over the crest at 100 px descends one metre per pixel at 45 degrees.
    assert shadow.max() == pytest.approx(130, abs=2)
    assert gain[0, 140:] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("mode", SENSORS)
def test_water_is_darker_than_forest_and_incidence_of_flat_land_is_one_angle(mode: str) -> None:
    contrasts = []
    for seed in range(6):
        terrain = Terrain((128, 128), SENSORS[mode].pixel_m, np.random.default_rng(seed))
        left = np.arange(128) < 64
        terrain.paint(left & np.ones((128, 1), bool), Cover.FOREST)
        terrain.paint(~left & np.ones((128, 1), bool), Cover.WATER)
        seen = observe(terrain, SENSORS[mode], terrain.rng)
        forest, water = (half[half > 0].mean() for half in np.hsplit(seen.amplitude, 2))
        contrasts.append(20 * np.log10(forest / water))
        assert np.ptp(seen.incidence) == 0
        assert SENSORS[mode].incidence_deg[0] <= seen.incidence[0, 0] / 4 <= SENSORS[mode].incidence_deg[1]
    assert min(contrasts) > 1
    assert np.median(contrasts) > 4


def test_noise_hides_water_where_it_is_suppressed_and_not_in_plain_images() -> None:
    """Two kinds of single looks, told apart by how uneven the water is; in the median of each it is darker than land by
    more than 4 dB (plain ones had 3.8 when their noise was -19 dB and their water as bright as in the others)."""
    contrasts: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(40):
        terrain = Terrain((96, 96), SENSORS["k5"].pixel_m, np.random.default_rng(seed))
        terrain.paint(np.arange(96) < np.full((96, 1), 48), Cover.WATER)
        amplitude = observe(terrain, SENSORS["k5"], terrain.rng).amplitude
        water, land = (half[half > 0].astype(float) for half in np.hsplit(amplitude, 2))
        if min(water.size, land.size) > 1000:
            contrasts[water.std() / water.mean() > 0.75].append(20 * np.log10(land.mean() / water.mean()))
    assert len(contrasts[True]) > 2 * len(contrasts[False]) > 4
    assert all(4 < np.median(each) < 12 for each in contrasts.values())
    assert min(min(each) for each in contrasts.values()) > 0.5
