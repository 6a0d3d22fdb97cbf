"""A brighter copy is read as the original is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy_gain import write_at_gain
from sarwater.errors import DataError
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.raster import gdal
from sarwater.scenes.readers import open_model_input
from tests.support.rasters import lake_scene, write_geotiff


def amplitude(path: Path, **said: str) -> np.ndarray:
    with open_model_input(path, (Channel("sar", "amplitude_dn"),), Request(**said)) as scene:
        rows, valid = scene.read_valid(0, scene.height_px)
        return np.where(valid, rows[0].astype(np.float64), np.nan)


SCENES = {
    "bytes, in which 0 is nodata": (lambda pixels: (pixels // 2).astype(np.uint8), {}),
    "a declared nodata": (lambda pixels: np.minimum(pixels, 255).astype(np.uint8), {"nodata": 255}),
    "DN": (lambda pixels: pixels, {}),
    "decibels": (lambda pixels: (20 * np.log10(pixels / 400)).astype(np.float32), {"descriptions": ["Sigma0_VV_db"]}),
    "decibels with NaN": (
        lambda pixels: np.where(pixels < 9, np.nan, 20 * np.log10(pixels / 400)).astype(np.float32),
        {"descriptions": ["Sigma0_VV_db"], "nodata": np.nan},
    ),
    "linear": (lambda pixels: ((pixels / 400) ** 2).astype(np.float32), {"descriptions": ["Sigma0_VV"], "nodata": 0}),
}


@pytest.fixture(params=SCENES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    stored, options = SCENES[request.param]
    return write_geotiff(tmp_path / "scene.tif", stored(lake_scene(80, 90, land=120)), **options)


@pytest.mark.parametrize("gain_db", [0, -10, 3])
def test_its_amplitudes_are_brighter_and_what_was_not_measured_still_is_not(scene: Path, gain_db: float) -> None:
    before = amplitude(scene)
    (scene.parent / "copy").mkdir()
    copy, said = write_at_gain(scene, gain_db, scene.parent / "copy")
    assert copy.name == scene.name
    np.testing.assert_allclose(amplitude(copy, **said), before * 10 ** (gain_db / 20), rtol=1e-4)


def test_it_keeps_tags_and_georeference(tmp_path: Path) -> None:
    scene = write_geotiff(tmp_path / "scene.tif", lake_scene(20, 20), metadata={"SATELLITE": "KOMPSAT-5"})
    (tmp_path / "copy").mkdir()
    before, after = (gdal.Open(str(path)) for path in (scene, write_at_gain(scene, 3, tmp_path / "copy")[0]))
    assert after.GetMetadata()["SATELLITE"] == "KOMPSAT-5"
    assert (after.GetGeoTransform(), after.GetProjection()) == (before.GetGeoTransform(), before.GetProjection())
    assert after.GetRasterBand(1).DataType == gdal.GDT_Float32


def test_scale_and_offset_of_a_band_are_heeded(tmp_path: Path) -> None:
    decibels = 20 * np.log10(lake_scene(30, 30) / 400)
    stored = np.round((decibels + 5) * 100).astype(np.int16)
    scene = write_geotiff(tmp_path / "scene.tif", stored, descriptions=["Sigma0_VV_db"])
    band = (dataset := gdal.Open(str(scene), gdal.GA_Update)).GetRasterBand(1)
    band.SetScale(0.01)
    band.SetOffset(-5)
    del band, dataset
    (tmp_path / "copy").mkdir()
    copy, said = write_at_gain(scene, -3, tmp_path / "copy")
    np.testing.assert_allclose(amplitude(copy, **said), amplitude(scene) * 10 ** (-3 / 20), rtol=1e-4)


def test_a_scene_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no TIFF; expected one"):
        write_at_gain(tmp_path, 3, tmp_path)  # a product folder
