"""Pixels of each class, and the water's area on the ground, against figures from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from runtime.tally import Tally, tally_of
from sarwater.scenes.georeference import Georeference
from tests.support.rasters import write_geotiff

ROWS = 37
SCALE = 0.9996 * (1 + (200_000 / 0.9996) ** 2 / (2 * 6_381_000**2))
"""Of UTM at 300 km east, 37 degrees north (Snyder, Map Projections, 1987, eq. 8-4 with the mean radius)."""


def mask_of(height: int = 100, width: int = 130) -> np.ndarray:
    """Water where it is not the same on the left and the right, above and below; shadow, and nodata."""
    mask = np.random.default_rng(3).choice(np.array([0, 1], np.uint8), (height, width), p=[0.4, 0.6])
    mask[: height // 2, : width // 3] = 0
    mask[-5:, :40] = 2
    mask[:4] = 255
    return mask


def tally(path: Path, mask: np.ndarray) -> Tally:
    found = Tally(Georeference.of(gdal.Open(str(path))), mask.shape[1])
    for row in range(0, len(mask), ROWS):
        found.add(row, mask[row : row + ROWS])
    return found


def test_every_pixel_is_counted_once(tmp_path: Path) -> None:
    mask = mask_of()
    found = tally(write_geotiff(tmp_path / "a.tif", mask), mask)
    counts = [int((mask == value).sum()) for value in (0, 1, 2, 255)]
    assert [found.land_px, found.water_px, found.shadow_px, found.nodata_px] == counts
    assert found.water_km2 == pytest.approx(counts[1] * 1.25**2 / SCALE**2 / 1e6, rel=5e-6)


@pytest.mark.parametrize("epsg", [4326, 4269])
@pytest.mark.parametrize(("latitude", "step"), [(60.0, 0.001), (-45.0, 0.02), (0.5, 0.0001), (89.9, 0.0005)])
def test_longitude_and_latitude_give_the_true_area(tmp_path: Path, latitude: float, step: float, epsg: int) -> None:
    """Against the ellipsoid's own formula of the area of a cell (Snyder, Map Projections, 1987, eq. 3-11 and 3-12)."""
    mask = mask_of()
    path = write_geotiff(tmp_path / "a.tif", mask, epsg=epsg, transform=(170.0, step, 0, latitude, 0, -step))
    edges = latitude - step * np.arange(len(mask) + 1)
    row_m2 = -np.diff(authalic_m2(edges)) * np.radians(step)
    expected_km2 = float(((mask == 1).sum(axis=1) * row_m2).sum() / 1e6)
    assert tally(path, mask).water_km2 == pytest.approx(expected_km2, rel=1e-3)


def authalic_m2(latitude_deg: np.ndarray) -> np.ndarray:
    """Area between the equator and a latitude, per radian of longitude."""
    semi_major_m, eccentricity = 6378137.0, 0.0818191908426
    sine = np.sin(np.radians(latitude_deg))
    e_sine = eccentricity * sine
    q = sine / (1 - e_sine**2) - np.log((1 - e_sine) / (1 + e_sine)) / (2 * eccentricity)
    return np.asarray(semi_major_m**2 / 2 * (1 - eccentricity**2) * q)


def test_control_points_give_the_area_of_the_ground_between_them(tmp_path: Path) -> None:
    mask, step = mask_of(), 0.001
    height, width = mask.shape
    gcps = [
        gdal.GCP(30 + x * step, 50 - y * step, 0, x, y) for y in (0, height / 2, height) for x in (0, width / 2, width)
    ]
    by_gcps = tally(write_geotiff(tmp_path / "gcps.tif", mask, gcps=gcps), mask)
    affine = write_geotiff(tmp_path / "affine.tif", mask, epsg=4326, transform=(30, step, 0, 50, 0, -step))
    assert by_gcps.water_km2 == pytest.approx(tally(affine, mask).water_km2, rel=1e-4)


def test_feet_are_not_metres(tmp_path: Path) -> None:
    mask = mask_of()
    path = write_geotiff(tmp_path / "a.tif", mask, epsg=2229, transform=(6_400_000, 10, 0, 1_800_000, 0, -10))
    feet_m = 1200 / 3937
    assert tally(path, mask).water_km2 == pytest.approx((mask == 1).sum() * (10 * feet_m) ** 2 / 1e6, rel=5e-4)


def test_without_a_georeference_the_area_is_unknown(tmp_path: Path) -> None:
    for name, keys in (("none", {"transform": None}), ("no-crs", {"epsg": None})):
        mask = mask_of()
        assert tally(write_geotiff(tmp_path / f"{name}.tif", mask, **keys), mask).water_km2 is None


def test_a_mask_that_lies_there_gives_the_same(tmp_path: Path) -> None:
    mask = mask_of(1100, 90)
    path = write_geotiff(tmp_path / "a.tif", mask, epsg=4326, transform=(30, 0.001, 0, 50, 0, -0.001))
    one, other = tally(path, mask), tally_of(path)
    assert (one.water_px, one.land_px) == (other.water_px, other.land_px)
    assert one.water_km2 == pytest.approx(other.water_km2)
