"""The whole way, as an operator goes it: real scenes in a folder, the model that ships, the daemon, products."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sarwater.scenes.raster import gdal
from tests.conftest import CHECKOUT

MEMORY_LIMIT_BYTES = 1_500_000_000
"""For a scene of 11,264 x 8,192 px, model included."""

# Reports the largest resident set of itself and of all its descendants that ended; the worker is one of them.
MEASURED = """
import json, resource, subprocess, sys
code = subprocess.run([sys.executable, *sys.argv[1:]]).returncode
print(json.dumps({"code": code, "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}))
"""


@pytest.mark.realdata
@pytest.mark.timeout(900)
def test_kompsat_and_sentinel_scenes_come_out_as_cogs_on_the_grid_of_the_input(realdata: Path, tmp_path: Path) -> None:
    scenes = [*sorted((realdata / "k5" / "img").glob("*.tif")), realdata / "etci" / "vv.tif"]
    incoming, outgoing, state = tmp_path / "in", tmp_path / "out", tmp_path / "state"
    incoming.mkdir()
    for scene in scenes:
        shutil.copyfile(scene, incoming / scene.name)

    watch = ["-m", "runtime.watch", "--once", "--incoming", incoming, "--outgoing", outgoing, "--state", state]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, watch)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SARWATER_SETTLE_S": "0.5"},
    )
    measured = json.loads(done.stdout.splitlines()[-1])

    assert measured["code"] == 0
    assert measured["peak_bytes"] < MEMORY_LIMIT_BYTES
    assert not list(incoming.iterdir())
    for scene in scenes:
        assert_cog_on_the_grid_of(scene, outgoing / f"{scene.stem}_water.tif")
        item = json.loads((outgoing / f"{scene.stem}_water.json").read_text())
        latency = item["properties"]["sarwater:latency"]
        assert latency["backend"] == "openvino"
        assert latency["infer_s"] > 0


def assert_cog_on_the_grid_of(scene: Path, mask: Path) -> None:
    given, made = gdal.Open(str(scene)), gdal.Open(str(mask))
    assert made.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE") == "COG"
    assert (made.RasterXSize, made.RasterYSize) == (given.RasterXSize, given.RasterYSize)
    assert made.GetProjection() == given.GetProjection()
    assert made.GetGeoTransform() == given.GetGeoTransform()
    band = made.GetRasterBand(1)
    assert band.GetNoDataValue() == 255
    assert band.GetColorTable() is not None
    assert {0, 1} <= set(np.unique(band.ReadAsArray()).tolist()) <= {0, 1, 255}
