from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from osgeo import gdal

from sarwater.errors import DataError
from sarwater.metrics import LAND, NODATA, WATER
from tests.train.lakes import lake, write_raster
from train.doubtful import LEAST_AUC, doubtful_blocks, leave_out_doubtful
from train.tiles import find_tiles


def scene(side_px: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """A lake, and in the upper left corner labels that have nothing to do with the image."""
    amplitude, label = lake(side_px, seed=1)
    label[:64, :64] = 255 * (np.random.default_rng(2).random((64, 64)) < 0.4)
    return amplitude, label


def test_labels_at_random_are_doubtful_and_a_lake_is_not() -> None:
    amplitude, label = scene()
    found = doubtful_blocks(amplitude.astype(np.float32), (label // 255).astype(np.uint8))
    assert found[:64, :64].all()
    assert found.sum() == 64 * 64


@given(seed=st.integers(0, 2**32 - 1), contrast=st.floats(0, 3), unknown=st.floats(0, 0.3))
def test_a_block_is_doubtful_where_the_area_under_the_curve_says_so(seed: int, contrast: float, unknown: float) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random((32, 32)) < 0.3).astype(np.uint8)
    amplitude = np.rint(rng.normal(100 - 10 * contrast * truth, 10)).astype(np.float32)  # with ties
    truth[rng.random((32, 32)) < unknown] = NODATA
    water, land = amplitude[truth == WATER][:, None], amplitude[truth == LAND][None]
    area = np.mean((water < land) + 0.5 * (water == land))
    assert doubtful_blocks(amplitude, truth).all() == (area < LEAST_AUC)
    assert np.array_equal(doubtful_blocks(amplitude, truth), doubtful_blocks(np.exp(amplitude / 9), truth))


def test_what_has_one_kind_alone_or_fills_no_block_is_not_judged() -> None:
    amplitude = np.full((40, 70), 50, np.float32)
    truth = np.full((40, 70), LAND, np.uint8)
    truth[:32, 32:] = WATER
    truth[3, :15] = WATER  # of 16 on, a block is judged
    assert not doubtful_blocks(amplitude, truth).any()
    truth[3, 15] = WATER
    assert np.array_equal(doubtful_blocks(amplitude, truth)[:, ::32], [[True, False, False]] * 32 + [[False] * 3] * 8)


def test_held_out_labels_stay_as_they_are_and_others_are_ignored_where_doubtful(tmp_path: Path) -> None:
    amplitude, label = scene()
    label[-64:, :64] = label[:64, :64]
    amplitude[:, -5:] = 0  # beyond the swath
    image = write_raster(tmp_path / "vv.tif", amplitude, west_north=(500_000, 5_000_000))
    mask = write_raster(tmp_path / "label.tif", label, west_north=(500_000, 5_000_000))
    out = tmp_path / "made" / "labels.tif"
    share = leave_out_doubtful(f"{image}:{mask}", "vv@25", out)
    (before,), (after,) = find_tiles(f"{image}:{mask}"), find_tiles(f"{image}:{out}")
    expected = before.truth()
    water_px = np.count_nonzero(expected[:192] == WATER)
    assert share == pytest.approx(np.count_nonzero(expected[:64, :64] == WATER) / water_px)
    expected[:64, :64] = NODATA
    assert np.array_equal(after.truth(), expected)
    assert gdal.Open(str(out)).GetGeoTransform() == gdal.Open(str(mask)).GetGeoTransform()


def test_labels_of_which_nothing_is_left_are_refused(tmp_path: Path) -> None:
    amplitude, label = scene(64)
    image, mask = (write_raster(tmp_path / f"{n}.tif", p) for n, p in (("vv", amplitude), ("label", label)))
    with pytest.raises(DataError, match=r"label\.tif: none of its water is darker than the land about it in vv\.tif"):
        leave_out_doubtful(f"{image}:{mask}", "vv@50", tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()
