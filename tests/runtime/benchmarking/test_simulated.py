from __future__ import annotations

from pathlib import Path

import numpy as np
from osgeo import gdal

from runtime.benchmarking.simulated import write_scene


def read(path: Path) -> np.ndarray:
    return np.asarray(gdal.OpenEx(str(path)).ReadAsArray())


def test_the_scene_is_as_dark_and_as_speckled_as_kompsat_5s(tmp_path: Path) -> None:
    amplitude = read(write_scene(tmp_path / "a.tif", 1100, 800, truth=tmp_path / "truth.tif")).astype(np.float32)
    water = read(tmp_path / "truth.tif") == 255
    assert 0.05 < water.mean() < 0.5
    land_db, water_db = (20 * np.log10(np.median(amplitude[where])) for where in (~water, water))
    assert 34 < land_db < 36
    assert 20 < water_db < 24
    inside = amplitude[:100, :100][~water[:100, :100]]  # one field
    assert 0.4 < inside.std() / inside.mean() < 0.65, "Rayleigh speckle varies by 0.52 of its mean"
    left, right = amplitude[:, :-1].ravel(), amplitude[:, 1:].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.5, "neighbours share their speckle"


def test_the_same_rows_whatever_comes_below_them(tmp_path: Path) -> None:
    tall, cut = (write_scene(tmp_path / f"{rows}.tif", 1024, 300, data_rows=rows) for rows in (1024, 512))
    assert np.array_equal(read(tall)[:512], read(cut)[:512])
    assert not read(cut)[512:].any()
