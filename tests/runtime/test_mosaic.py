"""Mosaics over the limit on pixels: refused with the option that lifts it, then worked off in bounded memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from sarwater.classes import NODATA, WATER
from sarwater.cli import cli
from sarwater.models import Model
from tests.conftest import CHECKOUT
from tests.support.models import box_model
from tests.support.rasters import TRANSFORM, lake_scene, read_raster, wkt, write_geotiff

AT = (20_480, 12_800)
"""Column and row of what is measured."""


def mosaic(path: Path, width: int, height: int) -> Path:
    """Sparse, with one lake of 512 x 512 px in it."""
    options = ["SPARSE_OK=YES", "TILED=YES", "COMPRESS=DEFLATE"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, 1, gdal.GDT_UInt16, options)
    dataset.SetGeoTransform(TRANSFORM)
    dataset.SetProjection(wkt(32652))
    dataset.GetRasterBand(1).SetNoDataValue(0)
    dataset.GetRasterBand(1).WriteArray(lake_scene(512, 512), *AT)
    del dataset
    return path


def refusal(scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The option that the refusal names."""
    assert cli(["predict", str(scene), "-o", str(out), "--model", str(model.path)]) == 1
    return re.findall(r"--max-pixels \d+", capsys.readouterr().err)[0].split()


def test_a_mosaic_over_the_limit_runs_as_its_refusal_advises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = box_model(tmp_path / "box.onnx")
    scene = mosaic(tmp_path / "mosaic.tif", 40_000, 30_000)
    option = refusal(scene, tmp_path / "out", model, capsys)
    window = ["--window", f"{AT[0]},{AT[1]},512,512", "--products", "mask"]
    assert cli(["predict", str(scene), "-o", str(tmp_path / "out"), "--model", str(model.path), *window, *option]) == 0
    small = write_geotiff(tmp_path / "small.tif", lake_scene(512, 512), nodata=0)
    assert cli(["predict", str(small), "-o", str(tmp_path / "out"), "--model", str(model.path), *window[2:]]) == 0
    ours, theirs = (read_raster(tmp_path / "out" / f"{name}_water.tif") for name in ("mosaic", "small"))
    assert np.array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_50000_by_50000_px_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = box_model(tmp_path / "box.onnx", tile_px=1024, overlap_px=48)
    scene = mosaic(tmp_path / "mosaic.tif", 50_000, 50_000)
    option = refusal(scene, tmp_path / "out", model, capsys)
    code = "import resource, sys; from sarwater.cli import cli; ended = cli(sys.argv[1:]); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024); sys.exit(ended)"
    command = ["predict", scene, "-o", tmp_path / "out", "--model", model.path, "--products", "mask", *option]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 2500, "MiB"
    mask = gdal.Open(str(tmp_path / "out" / "mosaic_water.tif"))
    measured = mask.ReadAsArray(*AT, 512, 512)
    assert 0.1 < (measured == WATER).mean() < 0.9
    assert not (measured == NODATA).any()
    assert (mask.ReadAsArray(0, 0, 5000, 5000) == NODATA).all()
